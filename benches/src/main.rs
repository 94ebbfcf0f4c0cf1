//! `bench`: measures `embed()` side by side with what it is compared to, and writes the results down.
//!
//! A measurement is one file in `measure/` and one line in its list. Whatever is compared runs alternately in
//! one run, on the same texts and the same processors, so that bars are ratios or differences of medians.

mod arguments;
mod bare;
mod cluster;
mod error;
mod machine;
mod measure;
mod peer;
mod report;
mod server;
mod stats;
mod texts;

use std::process::ExitCode;

use arguments::Arguments;
use bare::Bare;
use error::{Result, explain};
use measure::{Bench, MEASUREMENTS};
use report::{Report, Row};
use server::Server;

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {}", explain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let server = Server::from_environment()?;
    let mut client = server.connect()?;
    let settings = server::prepare(&mut client)?;
    let mut report = Report::new(machine::describe(&mut client, &arguments, settings)?);
    let bench = Bench {
        bare: Bare::load(&arguments.path("runtime"), &arguments.path("model"), settings)?,
        queries: texts::Queries::default(),
        synopses: texts::read_synopses(&arguments.path("texts"))?,
        server,
        arguments,
    };
    drop(client);

    for measurement in MEASUREMENTS {
        if !bench.arguments.selects(measurement.name) {
            continue;
        }
        let (time, rows) = stats::timed(|| (measurement.run)(&bench));
        eprintln!("measured {} in {:.1} s", measurement.what, time / 1e3);
        match rows {
            Ok(rows) => report.rows.extend(rows),
            Err(error) => report.rows.push(Row::not_measured(measurement.what, explain(&*error))),
        }
    }
    print!("\n{}", report.to_markdown());
    if bench.arguments.selected.is_empty() && !bench.arguments.quick {
        let readme = bench.arguments.path("readme");
        report.write_into(&readme)?;
        println!("\nwritten into {}", readme.display());
    }
    Ok(())
}
