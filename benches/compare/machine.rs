//! Where a run took place: without it a figure means nothing.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;

use serde::Serialize;

use crate::target::Target;

/// The machine and the programs.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Machine {
    /// When, in UTC.
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// What each program says of itself.
    pub(crate) versions: BTreeMap<&'static str, String>,
}

impl Machine {
    /// Asks the machine, and the programs of `targets`.
    pub(crate) fn look(targets: &[Target]) -> Self {
        let output = |program: &str, argument: &str| first_line(Command::new(program).arg(argument)).unwrap_or_default();
        Self {
            date: first_line(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])).unwrap_or_default(),
            cpu: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| cpu_model(&text)).unwrap_or_default(),
            cores: thread::available_parallelism().map_or(0, Into::into),
            kernel: output("uname", "-sr"),
            versions: targets.iter().filter_map(|target| Some((target.name(), version(*target)?))).collect(),
        }
    }
}

/// What the program says, without the path that Envoy puts before it.
fn version(target: Target) -> Option<String> {
    let program = target.program().ok()?;
    let line = first_line(Command::new(&program).arg(target.version_argument()))?;
    Some(line.replace(&*program.to_string_lossy(), "").trim().to_owned())
}

/// The first line that a program prints, wherever it prints it.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_named_by_its_first_core() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\n").as_deref(), Some("AMD EPYC"));
        assert_eq!(cpu_model("processor\t: 0\n"), None);
    }
}
