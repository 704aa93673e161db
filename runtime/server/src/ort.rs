//! Finds ONNX Runtime's shared library where `make ort` puts it. Never loads it.

use std::path::{Path, PathBuf};

/// The folder that `make ort` fills, below the project's.
const FOLDER: &str = ".quern/ort";
/// How a versioned or plain library begins, on Linux and on macOS.
const NAMES: [&str; 2] = ["libonnxruntime.so", "libonnxruntime"];

/// The library below the working directory, or below a folder above the program's own.
pub(crate) fn find_library() -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    let working = std::env::current_dir().ok();
    let above_program = program.iter().flat_map(|program| program.ancestors().skip(1));
    working.iter().map(PathBuf::as_path).chain(above_program).find_map(library_below)
}

/// The library in the folder that `make ort` fills below `root`; the last by name of several.
fn library_below(root: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(root.join(FOLDER)).ok()?;
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_library(path)).max()
}

fn is_library(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let linux = name.starts_with(NAMES[0]) && !name.ends_with(".partial");
    let macos = name.starts_with(NAMES[1]) && name.ends_with(".dylib");
    (linux || macos) && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_library_is_found() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(library_below(root.path()), None);
        let folder = root.path().join(FOLDER);
        std::fs::create_dir_all(&folder).expect("created");
        for name in [
            "libonnxruntime.so.1.29.0",
            "libonnxruntime.so.1.30.0",
            "README",
            "libonnxruntime.so.1.31.0.partial",
        ] {
            std::fs::write(folder.join(name), "x").expect("written");
        }
        let newest = folder.join("libonnxruntime.so.1.30.0");
        assert_eq!(library_below(root.path()), Some(newest));
    }
}
