CREATE DATABASE IF NOT EXISTS shop;
CREATE TABLE IF NOT EXISTS shop.users (Id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100), email VARCHAR(100),
    age INT, FULLTEXT KEY words (name));
CREATE TABLE IF NOT EXISTS shop.parts (a INT, b VARCHAR(20), n DOUBLE, PRIMARY KEY (a, b));
CREATE TABLE IF NOT EXISTS shop.notes (t TEXT, flag BIT(3), at TIMESTAMP NULL);
CREATE TABLE IF NOT EXISTS shop.kinds (code VARBINARY(8) PRIMARY KEY, paid DECIMAL(10, 2) UNIQUE, seen DATETIME(3),
    more JSON, face BLOB, half INT AS (paid DIV 2), shape POINT, way ENUM('up', 'down'), long_ago YEAR);
INSERT IGNORE INTO shop.users VALUES (1, 'Ann', 'ann@example.com', 30), (2, 'Bob', NULL, 5);
INSERT IGNORE INTO shop.parts VALUES (1, 'x', 0.5), (2, 'y', 1e300);
INSERT IGNORE INTO shop.kinds (code, paid, seen, more, shape, way, long_ago)
    VALUES (x'00ff', 1.50, NOW(3), '{"a": [1]}', POINT(1, 2), 'up', 1999);
INSERT INTO shop.notes SELECT 'a,b', b'101', NULL FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM shop.notes);
