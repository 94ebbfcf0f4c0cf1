//! A directory that Chroma writes to meanwhile.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use vector_embed_sources::Error;

use crate::support::{COLUMNS, VERSIONS, directory, explain, read, repository, scan, script};

/// chromadb, adding rows until this is dropped.
struct Writer {
    process: Child,
    counts: Receiver<usize>,
}

impl Writer {
    fn start(version: &str, directory: &Path) -> Self {
        let maker = repository().join("tests/chroma/make_stores.py");
        let mut process = Command::new(script("python", version))
            .arg(maker)
            .arg("write")
            .arg(directory)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python can be run");
        let (sender, counts) = channel();
        let lines = BufReader::new(process.stdout.take().expect("it was asked for"));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if sender.send(line.parse().expect("a number")).is_err() {
                    return;
                }
            }
        });
        Self { process, counts }
    }

    /// Waits until there are so many rows; more may be.
    fn wait_for(&self, rows: usize) -> usize {
        loop {
            let count = self.counts.recv().expect("the writer goes on");
            if count >= rows {
                return count;
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It ends by itself; what it says of that does not matter.
        let _ = self.process.wait();
    }
}

fn check(version: &str) {
    let directory_of_it = tempfile::tempdir().expect("a temporary directory");
    let writer = Writer::start(version, directory_of_it.path());
    let source = directory(directory_of_it.path());
    let mut known = 0;
    for _ in 0..12 {
        known = writer.wait_for(known + 21);
        let got = match read(&source, &scan("busy", &COLUMNS)) {
            Ok(got) => got,
            // Said, not guessed: the index was written just then.
            Err(Error::IndexChanging { .. }) => continue,
            Err(error) => panic!("{}", explain(&error)),
        };
        assert!(got.rows.len() >= known, "rows that were there are missing");
        assert_eq!((got.lost, got.incomplete), (0, false), "{:?}", got.why);
        assert_eq!(got.vectors(), got.rows.len());
        for (id, row) in &got.rows {
            assert_eq!(row.document.as_deref(), Some(&*format!("text of {id}")));
        }
    }
}

#[test]
fn a_directory_is_read_while_chroma_writes_to_it() {
    for version in VERSIONS {
        check(version);
    }
}
