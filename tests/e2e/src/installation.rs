//! Installations of the server with the extension: the one under test, and copies of it to damage.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::account::output;
use crate::run;

/// An installation. PostgreSQL finds its files relative to its programs, so a copy is complete in itself.
#[derive(Debug, Clone)]
pub struct Installation {
    bindir: PathBuf,
    pkglibdir: PathBuf,
    sharedir: PathBuf,
}

impl Installation {
    /// The installation under test: that of the program `PG_CONFIG`, which scripts/cargo sets to that of the
    /// private copy that scripts/prefix makes. Tests leave it alone.
    pub fn under_test() -> Self {
        static INSTALLATION: OnceLock<Installation> = OnceLock::new();
        INSTALLATION.get_or_init(Self::find).clone()
    }

    fn find() -> Self {
        let pg_config = std::env::var_os("PG_CONFIG").expect("scripts/cargo sets PG_CONFIG");
        let ask = |what: &str| PathBuf::from(output(Command::new(&pg_config).arg(what)).trim());
        let installation =
            Self { bindir: ask("--bindir"), pkglibdir: ask("--pkglibdir"), sharedir: ask("--sharedir") };
        let engine = installation.engine();
        assert!(
            engine.is_file(),
            "{} is missing: run \"make check-e2e\", which builds and installs first",
            engine.display()
        );
        installation
    }

    /// A copy of the installation under test that a test may damage. Files are hard links to the originals: they
    /// are replaced or moved away, never written to.
    pub fn copy() -> Self {
        let original = Self::under_test();
        let root = original.root();
        let target = run::new_path("installation");
        let copied = |directory: &Path| {
            let relative = directory.strip_prefix(&root).expect("a directory of the installation");
            target.join(relative)
        };
        let copy = Self {
            bindir: copied(&original.bindir),
            pkglibdir: copied(&original.pkglibdir),
            sharedir: copied(&original.sharedir),
        };
        let device = |path: &Path| fs::metadata(path).expect("the directory exists").dev();
        let how = if device(&root) == device(run::directory()) { "-al" } else { "-a" };
        for (from, to) in [
            (&original.bindir, &copy.bindir),
            (&original.pkglibdir, &copy.pkglibdir),
            (&original.sharedir, &copy.sharedir),
        ] {
            fs::create_dir_all(to.parent().expect("a directory has a parent")).expect("the copy has room");
            output(Command::new("cp").arg(how).arg(from).arg(to));
        }
        copy
    }

    /// The directory that holds all of it and nothing else. The system's own server has no such directory.
    fn root(&self) -> PathBuf {
        let root = self
            .bindir
            .ancestors()
            .find(|ancestor| self.pkglibdir.starts_with(ancestor) && self.sharedir.starts_with(ancestor))
            .expect("directories have a common ancestor");
        assert!(
            root != Path::new("/") && root != Path::new("/usr"),
            "PG_CONFIG must name a private copy of the server, as scripts/prefix makes it"
        );
        root.to_owned()
    }

    /// A program of the server.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bindir.join(name)
    }

    /// The engine's executable.
    pub fn engine(&self) -> PathBuf {
        self.program("vector_embed_engine")
    }

    /// ONNX Runtime's library.
    pub fn runtime(&self) -> PathBuf {
        self.pkglibdir.join("vector_embed/libonnxruntime.so")
    }

    /// The directory of the optional runtime with OpenVINO, installed or not.
    pub fn openvino(&self) -> PathBuf {
        self.pkglibdir.join("vector_embed/openvino")
    }

    /// The directory of a model, installed or not.
    pub fn model(&self, name: &str) -> PathBuf {
        self.sharedir.join("vector_embed/models").join(name)
    }

    /// Installs a model, one of the fixtures for example.
    pub fn add_model(&self, source: &Path) -> PathBuf {
        let name = source.file_name().expect("the directory has a name");
        let target = self.sharedir.join("vector_embed/models").join(name);
        output(Command::new("cp").arg("-r").arg(source).arg(&target));
        target
    }

    /// Puts a copy of another model in the place of one, as a user may who wants to have it by the same name.
    pub fn exchange_model(&self, name: &str, source: &Path) -> Away {
        let away = move_away(&self.model(name));
        output(Command::new("cp").arg("-r").arg(source).arg(self.model(name)));
        away
    }

    /// Installs another executable in the engine's place, as an installation does: by a rename.
    pub fn install_engine(&self, executable: &Path) {
        replace(&self.engine(), &fs::read(executable).expect("the executable can be read"), 0o755);
    }
}

/// Puts a new file in the place of `path`, whether there is one or not.
pub fn replace(path: &Path, contents: &[u8], mode: u32) {
    let new = path.with_extension("new");
    fs::write(&new, contents).expect("the directory can be written to");
    fs::set_permissions(&new, Permissions::from_mode(mode)).expect("the file is ours");
    fs::rename(&new, path).expect("the file is in the same directory");
}

/// A file or directory of a copy that is out of the way for a while.
#[derive(Debug)]
pub struct Away {
    path: PathBuf,
    kept: PathBuf,
}

/// Moves a file or directory out of the way.
pub fn move_away(path: &Path) -> Away {
    let kept = run::new_path("away");
    fs::rename(path, &kept).expect("the file is there and can be moved");
    Away { path: path.to_owned(), kept }
}

impl Away {
    /// Puts it back, over whatever has taken its place.
    pub fn put_back(self) {
        if self.path.is_dir() {
            fs::remove_dir_all(&self.path).expect("the directory is ours");
        }
        fs::rename(&self.kept, &self.path).expect("the file can be moved back");
    }
}
