//! That SORT is taken apart, and its answer put together, as Redis does it.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::command::lookup;

fn parse(line: &str) -> Result<Sort, &'static str> {
    let request = Request::new(&line.split(' ').collect::<Vec<_>>());
    Sort::parse(lookup(&request).unwrap(), &request)
}

/// What `line` makes of `elements` when all of `pairs` is known; elements are divided by spaces, values that are missing are `-`.
fn arranged(line: &str, elements: &str, pairs: &[(&str, &str)]) -> String {
    let elements = elements.split(' ').map(|element| Bytes::copy_from_slice(element.as_bytes())).collect();
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let known = pairs.iter().map(|(name, value)| {
        let (key, field) = name.split_once(':').map_or((*name, None), |(key, field)| (key, Some(bytes(field))));
        (Lookup { key: bytes(key), field }, (*value != "-").then(|| bytes(value)))
    });
    match parse(line).unwrap().arrange(Source { elements, is_set: false }, &known.collect()) {
        Arranged::Done(values) => {
            let shown =
                values.iter().map(|value| value.as_ref().map_or("-".to_owned(), |value| String::from_utf8(value.to_vec()).unwrap()));
            shown.collect::<Vec<_>>().join(" ")
        }
        Arranged::Wanting(lookups) => {
            let shown = lookups
                .iter()
                .map(|lookup| format!("{}{}", String::from_utf8_lossy(&lookup.key), if lookup.field.is_some() { ":" } else { "" }));
            format!("? {}", shown.collect::<Vec<_>>().join(" "))
        }
        Arranged::NotNumbers => "not numbers".to_owned(),
    }
}

#[test]
fn options_are_read_as_the_server_reads_them() {
    for line in ["sort k by", "sort k get", "sort k store", "sort k limit 1", "sort k foo", "sort_ro k store d", "sort k by a* limit"] {
        assert_eq!(parse(line).unwrap_err(), error_reply::SYNTAX, "{line}");
    }
    for line in ["sort k limit a 1", "sort k limit 1 01", "sort k limit 1 99999999999999999999"] {
        assert_eq!(parse(line).unwrap_err(), error_reply::NOT_AN_INTEGER, "{line}");
    }
    let sent = |line: &str| -> Vec<String> {
        parse(line)
            .unwrap()
            .source_requests()
            .iter()
            .map(|request| request.args_from(0).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "))
            .collect()
    };
    assert_eq!(sent("sort k get x_* desc alpha limit 1 -2"), ["SORT_RO k ALPHA DESC LIMIT 1 -2"]);
    assert_eq!(sent("sort k get x_* by foo desc asc"), ["SORT_RO k BY nosort"]);
    assert_eq!(sent("sort k by w_* limit 1 2 desc"), ["SORT_RO k BY nosort", "TYPE k"]);
    assert_eq!(sent("sort k get x_* store d limit 1 2"), ["SORT_RO k BY nosort", "TYPE k"]);
    assert_eq!(sent("sort k by w_* by foo by v_*"), ["SORT_RO k BY nosort"]);
}

#[test]
fn patterns_name_keys_and_fields() {
    let named = |pattern: &str| Pattern::parse(Bytes::copy_from_slice(pattern.as_bytes())).map(|pattern| pattern.lookup(b"E"));
    let lookup = |key: &'static str, field: Option<&'static str>| Some(Lookup { key: key.into(), field: field.map(Into::into) });
    assert_eq!(named("a*b"), lookup("aEb", None));
    assert_eq!(named("*"), lookup("E", None));
    assert_eq!(named("a*b*"), lookup("aEb*", None));
    assert_eq!(named("a*->f"), lookup("aE", Some("f")));
    assert_eq!(named("a*b->f->g"), lookup("aEb", Some("f->g")));
    assert_eq!(named("a*->"), lookup("aE->", None));
    assert_eq!(named("a->b*"), lookup("a->bE", None));
    assert_eq!(named("ab"), None);
    assert_eq!(named("a\0*"), None);
    assert_eq!(named("a*\0->f"), lookup("aE\0->f", None));
    let slot = |pattern: &str| Pattern::parse(Bytes::copy_from_slice(pattern.as_bytes())).unwrap().slot();
    assert_eq!(slot("{u}w_*"), Some(Slot::of(b"u")));
    assert_eq!([slot("w_*"), slot("{*}"), slot("{}*"), slot("{u*}"), slot("*{u}")], [None; 5]);
}

#[test]
fn elements_are_sorted_by_what_they_weigh() {
    let weights = &[("w_a", "3"), ("w_b", "1e0"), ("w_c", "1"), ("w_d", "-")];
    assert_eq!(arranged("sort k by w_*", "a b c d", weights), "d b c a");
    assert_eq!(arranged("sort k by w_* desc", "a b c d", weights), "a c b d");
    assert_eq!(arranged("sort k by w_* alpha", "a b c d", weights), "d c b a");
    assert_eq!(arranged("sort k by w_* limit 1 2", "a b c d", weights), "b c");
    assert_eq!(arranged("sort k by w_* limit -5 2", "a b c d", weights), "d b");
    assert_eq!(arranged("sort k by w_* limit 9 2", "a b c d", weights), "");
    assert_eq!(arranged("sort k by w_* limit 2 -9", "a b c d", weights), "c a");
    assert_eq!(arranged("sort k by w_*", "a", &[("w_a", "x")]), "not numbers");
    assert_eq!(arranged("sort k by w_* by x", "b a b", &[]), "b a b");
    assert_eq!(arranged("sort k by x store d desc limit 0 2", "b c a", &[]), "a c");
    assert_eq!(arranged("sort k store d", "10 9 1.5", &[]), "1.5 9 10");
}

#[test]
fn what_is_wanted_is_asked_for_as_soon_as_it_is_known_to_be() {
    assert_eq!(arranged("sort k by w_* get d_*->f get # get x", "a b", &[]), "? w_a w_b d_a: d_b:");
    assert_eq!(arranged("sort k by w_* get d_* limit 0 1", "a b", &[]), "? w_a w_b");
    let weights = [("w_a", "2"), ("w_b", "1")];
    assert_eq!(arranged("sort k by w_* get d_* limit 0 1", "a b", &weights), "? d_b");
    let all = [&weights[..], &[("d_b", "B"), ("d_a:f", "A")]].concat();
    assert_eq!(arranged("sort k by w_* get d_* get # get x limit 0 1", "a b", &all), "B b -");
    assert_eq!(arranged("sort k get # get d_*->f", "a", &all), "a A");
}

#[test]
fn numbers_are_what_strtod_reads_to_the_end() {
    for (text, value) in [
        ("", 0.0),
        ("1", 1.0),
        ("-1.5", -1.5),
        ("+.5e1", 5.0),
        (" \t\x0b5.", 5.0),
        ("-inf", f64::NEG_INFINITY),
        ("Infinity", f64::INFINITY),
        ("0x1A", 26.0),
        ("-0x.8p1", -1.0),
        ("0e999", 0.0),
        ("-0", 0.0),
        ("12\x00x", 12.0),
        ("9223372036854775807", 9223372036854775807.0),
    ] {
        assert_eq!(number(text.as_bytes()), Some(value), "{text:?}");
    }
    for text in [" ", "x", "1x", "1 ", "nan", "1e", ".", "1e999", "1e-999", "-", "+-1", "0x", "1_0", "infin", "0x1p", "\u{661}"] {
        assert_eq!(number(text.as_bytes()), None, "{text:?}");
    }
}
