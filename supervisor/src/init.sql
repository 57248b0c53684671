-- Run once when a data directory is made (also for the template in the image; no line may hold a secret).
-- Both accounts have no password: only a client certificate of the cluster's own authority opens them.
-- Nothing of it is a transaction of this server's own: all nodes begin with equal, empty GTID sets.
SET SESSION sql_log_bin = 0;
CREATE USER IF NOT EXISTS 'ddb_replication'@'%' IDENTIFIED WITH caching_sha2_password BY '' REQUIRE X509;
GRANT REPLICATION SLAVE ON *.* TO 'ddb_replication'@'%';
CREATE USER IF NOT EXISTS 'ddb_clone'@'%' IDENTIFIED WITH caching_sha2_password BY '' REQUIRE X509;
-- It copies closed servers too, whose offline_mode lets only such accounts in.
GRANT BACKUP_ADMIN, CONNECTION_ADMIN ON *.* TO 'ddb_clone'@'%';
-- The agent's own schema: one row whose change frees a commit whose acknowledgement was lost on the wire.
CREATE DATABASE IF NOT EXISTS ddb;
CREATE TABLE IF NOT EXISTS ddb.beat (id TINYINT UNSIGNED NOT NULL PRIMARY KEY, term BIGINT UNSIGNED NOT NULL, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6));
