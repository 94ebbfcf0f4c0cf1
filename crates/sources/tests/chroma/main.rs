//! Chroma directories as chromadb 0.4.24, 0.5.23, 0.6.3 and 1.5.9 write them, read without Chroma.

mod damage;
mod directories;
mod server;
mod support;
mod writing;
