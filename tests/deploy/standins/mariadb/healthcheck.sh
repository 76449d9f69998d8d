#!/bin/bash
# The official image's options are taken and not needed.
exec mariadb-admin --user=mysql --silent ping
