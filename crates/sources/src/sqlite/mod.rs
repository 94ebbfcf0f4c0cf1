//! SQLite database files.
