#!/bin/bash
# The official image's options are taken and not needed.
exec mariadb-admin --user=root --password="${MARIADB_ROOT_PASSWORD:-$(cat "$MARIADB_ROOT_PASSWORD_FILE")}" --silent ping
