//! The README tells the truth: its table of commands is the command table, its figures are those of the last measurement, its table of
//! keys is the sample configuration, and what it points at is there.
//!
//! The commands and the figures are written here: `WEFT_WRITE_README=1 cargo test readme` puts them in their places.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::Value;
use weft::command::{self, CommandSpec, Handling, SplitKind, Survey};

#[test]
fn its_table_of_commands_is_the_command_table() {
    must_show("commands", &commands());
}

#[test]
fn its_figures_are_those_of_the_last_measurement() {
    must_show("bench", &figures());
}

#[test]
fn its_plots_are_those_of_the_sweeps() {
    must_show("sweeps", &sweeps());
}

#[test]
fn its_costs_are_those_on_record() {
    must_show("cost", &costs());
}

#[test]
fn its_proof_is_the_last_long_run() {
    must_show("soak", &proof());
}

/// The README shows `table` between the marks named `place`; or puts it there when asked to.
#[track_caller]
fn must_show(place: &str, table: &str) {
    static WRITING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = WRITING.lock().unwrap();
    let (begin, end) = (format!("<!-- {place} -->"), format!("<!-- end of {place} -->"));
    let readme = read("README.md");
    let (before, rest) = readme.split_once(&begin).expect("the place where the table begins");
    let (shown, after) = rest.split_once(&end).expect("the place where the table ends");
    if std::env::var_os("WEFT_WRITE_README").is_some() {
        fs::write(path("README.md"), format!("{before}{begin}\n{table}{end}{after}")).unwrap();
    } else {
        assert!(shown.trim() == table.trim(), "the README's {place} are out of date: WEFT_WRITE_README=1 cargo test readme");
    }
}

#[test]
fn its_table_of_keys_is_the_sample_configuration() {
    let readme = read("README.md");
    let shown = readme.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()));
    let shown: BTreeSet<String> = shown.filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase())).collect();
    assert_eq!(shown.into_iter().collect::<Vec<_>>(), sample_keys().into_iter().collect::<Vec<_>>());
}

#[test]
fn what_it_points_at_is_there() {
    let readme = read("README.md");
    for link in readme.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
        assert!(link.starts_with("https://") || link.starts_with('#') || path(link).exists(), "{link}");
    }
    for file in readme.split('`').skip(1).step_by(2).filter(|word| word.starts_with("src/") || word.starts_with("tests/")) {
        assert!(path(file).exists(), "{file}");
    }
    for target in readme.split("make ").skip(1).map(|rest| rest.split(|c: char| c != '-' && !c.is_ascii_lowercase()).next().unwrap()) {
        assert!(read("Makefile").contains(&format!("\n{target}:")), "make {target}");
    }
}

/// The keys of `proxy.yaml`, those that are commented out included, by their paths.
fn sample_keys() -> BTreeSet<String> {
    let sample = read("proxy.yaml");
    let mut keys = BTreeSet::new();
    let mut parents: Vec<(usize, String)> = Vec::new();
    for line in sample.lines().map(|line| line.replacen("# ", "", 1)).map(|line| line.trim_end().to_owned()) {
        let depth = line.len() - line.trim_start().len();
        let Some((name, rest)) = line.trim_start().trim_start_matches("# ").split_once(':') else { continue };
        let is_key = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if !is_key || !(rest.is_empty() || rest.starts_with(' ')) || !known(name) {
            continue;
        }
        parents.retain(|(other, _)| *other < depth);
        parents.push((depth, name.to_owned()));
        let path: Vec<&str> = parents.iter().map(|(_, name)| name.as_str()).collect();
        keys.insert(path.join("."));
    }
    let sections: Vec<String> = keys.iter().filter(|key| keys.iter().any(|other| other.starts_with(&format!("{key}.")))).cloned().collect();
    sections.iter().for_each(|section| assert!(keys.remove(section)));
    keys
}

/// Whether `name` is a key and not a word of a comment that ends in a colon.
fn known(name: &str) -> bool {
    read("src/config/raw.rs").contains(&format!(" {name}:")) || ["static"].contains(&name)
}

/// The table of commands, in Markdown.
fn commands() -> String {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for spec in command::all().filter(|spec| spec.subcommands.is_empty() || spec.name == "command") {
        let how = how(spec);
        let name = spec.name.to_uppercase().replace('|', " ");
        match rows.iter_mut().find(|(other, _)| *other == how) {
            Some((_, names)) => names.push(name),
            None => rows.push((how, vec![name])),
        }
    }
    rows.sort_by_key(|(how, _)| order(how));
    let mut table = "| how | commands |\n|---|---|\n".to_owned();
    for (how, names) in rows {
        table.push_str(&format!("| {how} | {} |\n", names.join(", ")));
    }
    table
}

/// What `make bench` measured last, in Markdown: operations in a second and processor time of the proxy for each.
fn figures() -> String {
    let results: Value = serde_json::from_str(&read("benches/results/latest.json")).unwrap();
    let (machine, settings) = (&results["machine"], &results["settings"]);
    let mut table = format!(
        "Taken {} on {} cores ({}), {} clients, {}-byte values: thousands of operations in a second, and in brackets the proxy's CPU time for\n\
         each in µs; medians of {} rounds of {} s.\n\n| |",
        machine["date"].as_str().unwrap().split('T').next().unwrap(),
        machine["cores"],
        machine["cpu"].as_str().unwrap(),
        settings["clients"],
        settings["value_bytes"],
        settings["rounds"],
        settings["seconds"],
    );
    let cells = results["cells"].as_array().unwrap();
    let names = |key: &str| {
        let mut names: Vec<&str> = Vec::new();
        cells.iter().map(|cell| cell[key].as_str().unwrap()).for_each(|name| {
            if !names.contains(&name) {
                names.push(name)
            }
        });
        names
    };
    let targets = names("target");
    targets.iter().for_each(|target| table.push_str(&format!(" {target} |")));
    table.push_str(&format!("\n|---|{}\n", "---|".repeat(targets.len())));
    for workload in names("workload") {
        table.push_str(&format!("| {workload} |"));
        for target in &targets {
            let cell = cells.iter().find(|cell| cell["workload"] == workload && cell["target"] == *target).unwrap();
            table.push_str(&format!(" {} |", figure(&cell["figures"])));
        }
        table.push('\n');
    }
    table
}

fn figure(figures: &Value) -> String {
    let median = |name: &str| figures[name]["median"].as_f64();
    match (median("operations_per_s"), median("proxy_cpu_us_per_operation")) {
        (None, _) => "—".to_owned(),
        (Some(rate), Some(cpu)) if cpu > 0.0 => format!("{:.1} ({cpu:.1})", rate / 1000.0),
        (Some(rate), _) => format!("{:.1}", rate / 1000.0),
    }
}

/// The plots of `make sweep`, each beneath the command that makes it again.
fn sweeps() -> String {
    let mut found: Vec<String> =
        fs::read_dir(path("benches/results")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    found.retain(|name| name.starts_with("sweep-") && name.ends_with(".json"));
    found.sort_unstable();
    let show = |name: &String| {
        let results: Value = serde_json::from_str(&read(&format!("benches/results/{name}"))).unwrap();
        let (axis, command) = (results["axis"].as_str().unwrap(), results["command"].as_str().unwrap());
        let date = results["machine"]["date"].as_str().unwrap().split('T').next().unwrap();
        format!("`{command}` ({date}):\n\n![{axis}](benches/results/{})\n\n", name.replace(".json", ".svg"))
    };
    found.iter().map(show).collect()
}

/// What `make cost ARGS=--record` counted last, in Markdown.
fn costs() -> String {
    let record: Value = serde_json::from_str(&read("benches/results/cost.json")).unwrap();
    let tools = &record["tools"];
    let mut table = format!("Counted with {} and {}:\n\n", tools["rustc"].as_str().unwrap(), tools["valgrind"].as_str().unwrap());
    table += "| | instructions |\n|---|---|\n";
    for subject in record["subjects"].as_array().unwrap() {
        let title = subject["title"].as_str().unwrap();
        table += &format!("| {title} | {} |\n", subject["instructions"]);
    }
    table
}

/// What `make soak` came to last, in Markdown.
fn proof() -> String {
    let results: Value = serde_json::from_str(&read("benches/results/soak.json")).unwrap();
    let runs = results["runs"].as_array().unwrap();
    let row = |name: &str, cell: &dyn Fn(&Value) -> String| {
        let cells: Vec<String> = runs.iter().map(cell).collect();
        format!("| {name} | {} |\n", cells.join(" | "))
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let length = |value: &Value| value.as_array().unwrap().len().to_string();
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let seconds = |value: &Value| format!("{:.1} s", value.as_f64().unwrap() / 1000.0);
    let faults = |run: &Value| run["faults"].as_object().unwrap().clone();
    let mut kinds: Vec<String> = runs.iter().flat_map(|run| faults(run).into_iter().map(|(name, _)| name)).collect();
    kinds.sort_unstable();
    kinds.dedup();

    let date = results["date"].as_str().unwrap().split('T').next().unwrap().to_owned();
    let mut table = format!("Taken {date} on {} cores, with {} clients:\n\n", results["cores"], results["clients"]);
    table += &row("", &|run| text(&run["mode"]));
    table += &format!("|---|{}\n", "---|".repeat(runs.len()));
    table += &row("time under load and faults", &|run| format!("{:.1} min", run["seconds"].as_f64().unwrap() / 60.0));
    table += &row("operations", &|run| run["outcomes"].as_object().unwrap().values().map(count).sum::<u64>().to_string());
    table += &row("of which their clients were told that they happened", &|run| {
        (count(&run["outcomes"]["ok"]) + count(&run["outcomes"]["committed"])).to_string()
    });
    table += &row("transactions that committed on several shards", &|run| text(&run["transactions_across_shards"]));
    table += &row("faults", &|run| faults(run).values().map(count).sum::<u64>().to_string());
    for kind in &kinds {
        table += &row(&format!("· {kind}"), &|run| run["faults"].get(kind).map_or("—".to_owned(), Value::to_string));
    }
    table += &row("**anomalies**", &|run| format!("**{}**", length(&run["anomalies"])));
    table += &row("replies that no server may give", &|run| length(&run["surprises"]));
    table += &row("locks and records left at the end", &|run| length(&run["unresolved"]));
    table += &row("from a coordinator's death to its last lock's end, at most", &|run| seconds(&run["slowest_recovery_ms"]));
    table += &row("longest that a client waited", &|run| seconds(&run["longest_stall_ms"]));
    table
}

/// What weft does with a command, for people.
fn how(spec: &CommandSpec) -> String {
    match spec.handling {
        Handling::Keyed if spec.name == "sort" || spec.name == "sort_ro" => {
            "where its keys are, and what its patterns name anywhere; as one snapshot, or one transaction with STORE".to_owned()
        }
        Handling::Keyed if takes_several_keys(spec) => "where its keys are; over shards, as one transaction on copies".to_owned(),
        Handling::Keyed => "where its key is".to_owned(),
        Handling::Split(SplitKind::Values | SplitKind::Count) if !spec.is_write() => "over all shards, as one snapshot".to_owned(),
        Handling::Split(_) => "over all shards, as one transaction".to_owned(),
        Handling::Move => "where its keys are; over two shards, as one transaction".to_owned(),
        Handling::Blocking => "waits in weft, never at a shard; over all shards".to_owned(),
        Handling::PubSub => "publish and subscribe, across shards and proxies".to_owned(),
        Handling::Script => {
            "a script or function: where its keys are, on a connection of its own; over shards, as one transaction on copies".to_owned()
        }
        Handling::Transaction => "transactions, over all shards".to_owned(),
        Handling::Local => "weft itself".to_owned(),
        Handling::AnyShard => "any shard".to_owned(),
        Handling::Everywhere if spec.name == "swapdb" => {
            "a single static shard, when nothing is prepared there; refused by several, which would have to swap at the same instant"
                .to_owned()
        }
        Handling::Everywhere => "every shard, one reply; not atomic".to_owned(),
        Handling::Keyspace(Survey::Size | Survey::Names | Survey::Random | Survey::Scan) => {
            "every shard, without weft's own keys; not atomic".to_owned()
        }
        Handling::Disabled(_) => "an error, as from a server that has it switched off".to_owned(),
        Handling::Refused(reason) => format!("refused: {reason}"),
        Handling::Later(what) => format!("not there yet: {what}"),
    }
}

/// Whether it may name more than one key.
fn takes_several_keys(spec: &CommandSpec) -> bool {
    let one = |key: &command::KeySpec| matches!(key.find, command::FindKeys::Range { last_key: 0, .. });
    spec.keys.len() > 1 || spec.name == "move" || spec.keys.iter().any(|key| !one(key))
}

/// What most clients send comes first, what does not work last.
fn order(how: &str) -> usize {
    const BEGINNINGS: [&str; 12] = [
        "where its keys",
        "over all",
        "waits",
        "transactions",
        "a script",
        "a function",
        "publish",
        "every shard",
        "any shard",
        "weft itself",
        "an error",
        "refused",
    ];
    BEGINNINGS.iter().position(|beginning| how.starts_with(beginning)).unwrap_or(BEGINNINGS.len())
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}
