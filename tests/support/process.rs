//! A child process that dies with its owner, and the signals a test sends to it.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::{PATIENCE, eventually_some};

/// A running child. Dropping it kills it; when that happens because a test failed, the end of its log is printed.
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in the file `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: PathBuf) -> Self {
        FAILURES_ARE_TOLD.call_once(tell_failures);
        let output = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {:?}: {error}; run `make test`", command.get_program()));
        Self { child, name: name.to_owned(), log }
    }

    /// SIGKILL: it gets no chance to clean up.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGSTOP: connections stay, nothing answers. Threads on other cores stop a moment later, so this waits for the last of them.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        let (_, status) = waitpid(Some(Pid::from_child(&self.child)), WaitOptions::UNTRACED).unwrap().expect("a blocking wait");
        assert!(status.stopped(), "{} has ended", self.name);
    }

    /// SIGCONT, after [`Self::pause`].
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends `signal`.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, if it has.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn must_exit(&mut self) -> ExitStatus {
        let what = format!("{} exits", self.name);
        eventually_some(PATIENCE, &what, || self.exit_status())
    }

    /// Waits for its end, as long as `deadline`; it ended well.
    #[track_caller]
    pub(crate) fn must_succeed(&mut self, deadline: Duration) {
        let what = format!("{} is done", self.name);
        let status = eventually_some(deadline, &what, || self.exit_status());
        assert!(status.success(), "{}: {status}\n{}", self.name, self.log());
    }

    /// The most memory that it has had in use, in bytes, since its start or the last call of [`Self::forget_memory_peak`].
    pub(crate) fn memory_peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory that it has in use, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// From now on the peak is what comes from now on.
    pub(crate) fn forget_memory_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Everything it has printed so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.lines().count().saturating_sub(LOG_LINES);
            let end: String = log.lines().skip(from).map(|line| format!("  {line}\n")).collect();
            eprint!("--- the end of the log of {}\n{end}", self.name);
        }
    }
}

/// A test that fails says why at once, beside its name: the summary at the end is the first thing that a cut log lacks.
fn tell_failures() {
    let told_before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        // Not by a macro: what those print belongs to the test, and waits for the end.
        let _ = writeln!(std::io::stderr(), "\n{}: {panic}", thread.name().unwrap_or("a thread"));
        told_before(panic);
    }));
}

static FAILURES_ARE_TOLD: Once = Once::new();

const LOG_LINES: usize = 40;
