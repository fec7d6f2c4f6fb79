//! Which sweeps there are: data only.

use crate::sweep::{Axis, Kind, Line, Row, Sweep};
use crate::target::Target;

/// All sweeps, in the order in which they are made.
pub(crate) const SWEEPS: [Sweep; 5] = [
    Sweep { name: "clients", axis: Axis::Clients, values: &[1, 3, 10, 30, 100, 300, 1000], rows: SINGLE_COMMANDS },
    Sweep { name: "pipeline", axis: Axis::Pipeline, values: &[1, 2, 4, 16, 64, 256], rows: SINGLE_COMMANDS },
    Sweep { name: "values", axis: Axis::ValueBytes, values: &[8, 64, 512, 4 << 10, 32 << 10, 256 << 10, 1 << 20], rows: SINGLE_COMMANDS },
    Sweep {
        name: "shards",
        axis: Axis::Shards,
        values: &[1, 2, 4, 8, 16],
        rows: &[Row {
            title: "MULTI of a SET for each shard",
            lines: &[
                line(Target::Direct, Kind::OnOneShard, "direct, as many SETs"),
                line(Target::WeftStrict, Kind::OnOneShard, "weft-strict, as many SETs on one shard"),
                dashed(Target::WeftStrict, Kind::OnShards, "weft-strict, over the shards"),
            ],
        }],
    },
    Sweep {
        name: "commands",
        axis: Axis::Commands,
        values: &[2, 4, 10, 30, 100, 300, 1000],
        rows: &[Row {
            title: "MULTI of so many SETs",
            lines: &[
                line(Target::Direct, Kind::OnOneShard, "direct"),
                line(Target::Envoy, Kind::OnOneShard, "envoy, one shard"),
                line(Target::WeftStrict, Kind::OnOneShard, "weft-strict, one shard"),
                dashed(Target::WeftStrict, Kind::OnShards, "weft-strict, two shards"),
            ],
        }],
    },
];

const SINGLE_COMMANDS: &[Row] = &[Row { title: "GET", lines: &everybody(Kind::Get) }, Row { title: "SET", lines: &everybody(Kind::Set) }];

const fn everybody(kind: Kind) -> [Line; 4] {
    [
        line(Target::Direct, kind, "direct"),
        line(Target::Twemproxy, kind, "twemproxy"),
        line(Target::Envoy, kind, "envoy"),
        line(Target::WeftStrict, kind, "weft-strict"),
    ]
}

const fn line(target: Target, kind: Kind, label: &'static str) -> Line {
    Line { target, kind, label, dashed: false }
}

const fn dashed(target: Target, kind: Kind, label: &'static str) -> Line {
    Line { target, kind, label, dashed: true }
}
