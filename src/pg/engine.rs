//! The engines that there may be, and where each of them is found.

use std::path::PathBuf;

use super::{paths, runtime_dir};

/// An engine: a process has one runtime, so each runtime has a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// With ONNX Runtime, for all models but those of the other.
    OnnxRuntime,
    /// With ONNX Runtime and OpenVINO, an optional part of the installation, for models with bf16. Started when one of
    /// them is first asked for.
    OpenVino,
}

impl Engine {
    /// All.
    pub(crate) const ALL: [Self; 2] = [Self::OnnxRuntime, Self::OpenVino];

    /// The name of its runtime in SQL and in logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnxruntime",
            Self::OpenVino => "openvino",
        }
    }

    /// The one that has the models that this one has not.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::OnnxRuntime => Self::OpenVino,
            Self::OpenVino => Self::OnnxRuntime,
        }
    }

    /// Its directory, relative to the data directory.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::OnnxRuntime => runtime_dir::PATH,
            Self::OpenVino => "base/pgsql_tmp_vector_embed/openvino",
        }
    }

    /// A file in its directory.
    pub(crate) fn file(self, name: &str) -> String {
        format!("{}/{name}", self.directory())
    }

    /// Its socket.
    pub(crate) fn socket(self) -> String {
        self.file("engine.sock")
    }

    /// The shared library of its runtime.
    pub(crate) fn library(self) -> PathBuf {
        let folder = match self {
            Self::OnnxRuntime => "vector_embed",
            Self::OpenVino => "vector_embed/openvino",
        };
        paths::pkglib_dir().join(folder).join("libonnxruntime.so")
    }

    /// Whether it may be missing, and is: what is missing of the other one is a fault of the installation, which it tells
    /// by itself.
    pub(crate) fn is_left_out(self) -> bool {
        self == Self::OpenVino && !self.library().is_file()
    }
}
