//! `proxy.yaml`: understood, or refused with a message. What was understood can be shown.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weft::config::Config;

fuzz_target!(|text: &str| {
    // It may name files; none of them is to be read.
    if text.contains("file") {
        return;
    }
    match Config::parse(text, "proxy.yaml") {
        Ok(config) => drop(config.to_string()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
