//! A clock that is wrong, for a process under test: a library of our own is preloaded, between the process and the kernel. Only the time
//! of day is shifted; what processes measure time spans with goes on as it should, as on a machine that was set wrong. (libfaketime does
//! the same, but not to servers that were linked with jemalloc.)

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};

use tempfile::TempDir;

/// A clock that can be set. Clones are the same clock.
#[derive(Clone)]
pub(crate) struct Clock {
    folder: Arc<TempDir>,
}

impl Clock {
    /// A clock that is `seconds` ahead of the machine's, or behind.
    pub(crate) fn ahead_by(seconds: i64) -> Self {
        let clock = Self { folder: Arc::new(tempfile::tempdir().unwrap()) };
        std::fs::write(clock.file(), seconds.to_ne_bytes()).unwrap();
        clock
    }

    /// Sets it to so many seconds ahead of the machine's clock; the processes that live by it see that at once.
    pub(crate) fn set(&self, seconds: i64) {
        // They have the file mapped: it must stay the same one.
        let file = std::fs::File::options().write(true).open(self.file()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &seconds.to_ne_bytes(), 0).unwrap();
    }

    /// What a process that lives by it has in its environment.
    pub(crate) fn environment(&self) -> [(String, String); 2] {
        [("LD_PRELOAD", LIBRARY.clone()), ("CLOCK_FILE", self.file())]
            .map(|(name, path)| (name.to_owned(), path.to_str().unwrap().to_owned()))
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("seconds")
    }
}

/// The library, which is built when a test first needs it.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clock.so");
    // Renamed in one step: another run of the tests may be about to load it.
    let new = path.with_extension(std::process::id().to_string());
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&new).arg(source).status().expect("cc; run `make test`");
    assert!(built.success());
    std::fs::rename(new, &path).unwrap();
    path
});
