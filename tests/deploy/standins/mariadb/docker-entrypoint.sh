#!/bin/bash
# Makes the database and its user in an empty volume, then becomes the server.
set -euo pipefail
data=/var/lib/mysql
password=${MARIADB_PASSWORD:-$(cat "${MARIADB_PASSWORD_FILE:?MARIADB_PASSWORD or MARIADB_PASSWORD_FILE}")}
root=${MARIADB_ROOT_PASSWORD:-$(cat "${MARIADB_ROOT_PASSWORD_FILE:?MARIADB_ROOT_PASSWORD or MARIADB_ROOT_PASSWORD_FILE}")}
mkdir -p /run/mysqld
chown -R mysql:mysql /run/mysqld "$data"
if [ ! -d "$data/mysql" ]; then
    mariadb-install-db --user=mysql --datadir="$data" --skip-test-db >/dev/null
    cat >/run/mysqld/init.sql <<SQL
CREATE DATABASE \`$MARIADB_DATABASE\`;
CREATE USER '$MARIADB_USER'@'%' IDENTIFIED BY '$password';
ALTER USER root@localhost IDENTIFIED BY '$root';
GRANT ALL ON \`$MARIADB_DATABASE\`.* TO '$MARIADB_USER'@'%';
SQL
    chown mysql /run/mysqld/init.sql
    set -- "$@" --init-file=/run/mysqld/init.sql
fi
exec "$@" --user=mysql --datadir="$data" --bind-address=0.0.0.0 --innodb-buffer-pool-size=32M
