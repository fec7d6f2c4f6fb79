//! What `deploy/`, the image and the Makefile show holds for the program as it is: their configurations are valid, their command lines
//! are understood.

use std::path::{Path, PathBuf};

use clap::Parser as _;
use serde::Deserialize as _;
use weft::cli::Cli;
use weft::config::Config;

#[test]
fn the_configuration_beside_the_compose_file_is_valid() {
    Config::load(&file("deploy/compose/proxy.yaml")).unwrap();
}

#[test]
fn the_configuration_of_the_sidecar_is_valid() {
    let text = read("deploy/kubernetes-sidecar.yaml");
    let documents = serde_yaml::Deserializer::from_str(&text).map(|document| serde_yaml::Value::deserialize(document).unwrap());
    let configurations: Vec<_> =
        documents.filter_map(|document| Some(document.get("data")?.get("proxy.yaml")?.as_str()?.to_owned())).collect();
    assert_eq!(configurations.len(), 1);
    Config::parse(&configurations[0], "the ConfigMap").unwrap();
}

#[test]
fn every_command_line_is_understood() {
    let places = [
        ("deploy/weft.service", "ExecStartPre=/usr/local/bin/weft "),
        ("deploy/weft.service", "ExecStart=/usr/local/bin/weft "),
        ("Makefile", "/release/weft "),
        ("Dockerfile", "CMD [\"--"),
    ];
    for (path, beginning) in places {
        let text = read(path);
        let line = text.lines().find(|line| line.contains(beginning)).unwrap_or_else(|| panic!("{path} starts weft: {beginning}"));
        let arguments = match beginning {
            "CMD [\"--" => serde_yaml::from_str(line.trim_start_matches("CMD ")).unwrap(),
            _ => line.split_once(beginning).unwrap().1.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        };
        let parsed = Cli::try_parse_from(std::iter::once("weft".to_owned()).chain(arguments));
        assert!(parsed.is_ok(), "{path}: {line}: {:?}", parsed.err());
    }
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}
