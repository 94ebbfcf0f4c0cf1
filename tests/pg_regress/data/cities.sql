-- Names beyond ASCII: most of them LATIN1 has, one it has not.
CREATE TABLE "Städte" ("schlüssel" INTEGER PRIMARY KEY, "größe" TEXT);
INSERT INTO "Städte" VALUES (1, 'Köln'), (2, 'Orléans'), (3, 'Łódź'), (4, 'Bonn');
