#!/bin/bash
# Copies WordPress into an empty volume, tells it of its database, then becomes the web server.
set -euo pipefail
root=/var/www/html
if [ ! -e "$root/wp-login.php" ]; then
    rm -f "$root/index.html"
    cp -rL /usr/share/wordpress/. "$root/"
    mkdir -p "$root/wp-content/uploads"
    chown -R www-data:www-data "$root"
fi
cat >"$root/wp-config.php" <<'PHP'
<?php
function from_environment($name) {
    $file = getenv($name . '_FILE');
    return $file ? trim(file_get_contents($file)) : getenv($name);
}
define('DB_HOST', from_environment('WORDPRESS_DB_HOST'));
define('DB_NAME', from_environment('WORDPRESS_DB_NAME'));
define('DB_USER', from_environment('WORDPRESS_DB_USER'));
define('DB_PASSWORD', from_environment('WORDPRESS_DB_PASSWORD'));
define('DB_CHARSET', 'utf8mb4');
define('DB_COLLATE', '');
foreach (['AUTH_KEY', 'SECURE_AUTH_KEY', 'LOGGED_IN_KEY', 'NONCE_KEY', 'AUTH_SALT', 'SECURE_AUTH_SALT', 'LOGGED_IN_SALT', 'NONCE_SALT'] as $key) {
    define($key, hash('sha256', $key . DB_PASSWORD));
}
define('AUTOMATIC_UPDATER_DISABLED', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);
$table_prefix = 'wp_';
if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
PHP
{
    echo 'ServerName localhost'
    echo 'PassEnv WORDPRESS_DB_HOST WORDPRESS_DB_NAME WORDPRESS_DB_USER WORDPRESS_DB_PASSWORD_FILE'
} >/etc/apache2/conf-enabled/blog.conf
set +u  # envvars asks for variables that are not set
. /etc/apache2/envvars
mkdir -p "$APACHE_RUN_DIR"
rm -f "$APACHE_PID_FILE"
exec "$@"
