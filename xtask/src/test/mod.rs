//! `cargo xtask test`: everything that must hold before a change is merged, in one command.
//!
//! Every stage says its seconds; one that fails says how to run it alone, and the others run all the same, so that one
//! run tells everything. The last line on stdout sums the tests that were really executed.

mod libtest;
mod schemathesis;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{
    cluster::Cluster,
    e2e, generate, host, images,
    process::{output, run as run_quietly, succeeds},
};
use libtest::Tally;

#[derive(Args)]
pub struct Arguments {
    /// Also install tools that are missing (cargo-deny), which takes minutes once.
    #[arg(long)]
    full: bool,
    /// Only tests whose names contain this; no formatting, lints and other checks.
    #[arg(long, value_name = "FILTER")]
    only: Option<String>,
    /// Nothing that needs the cluster.
    #[arg(long)]
    no_cluster: bool,
}

const E2E_TESTS: &str = "cluster";
/// Names the mysqld to tests on real servers.
const MYSQLD: &str = "DDB_TEST_MYSQLD";

/// Names the schemathesis to the test that runs it, and what that test is called.
const SCHEMATHESIS: &str = "DDB_TEST_SCHEMATHESIS";
const DOCUMENT_TEST: &str = "the_document_is_what_the_nodes_answer";

/// What happened so far.
#[derive(Default)]
struct Report {
    tally: Tally,
    /// Stage and how to run it alone.
    failed: Vec<(String, String)>,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let mut report = Report::default();
    if arguments.only.is_none() {
        checks(&mut report, arguments.full);
    }
    report.stage("room on the disk", "cargo clean", || {
        host::ensure_disk_space(host::repository())?;
        host::ensure_disk_space(&std::env::temp_dir())
    });
    let filter = arguments.only.as_deref();
    let mysqld = server(&mut report, !arguments.no_cluster);
    let again = mysqld.as_ref().map_or_else(
        || "cargo test --workspace".to_owned(),
        |path| format!("DDB_TEST_MYSQLD={} cargo test --workspace", path.display()),
    );
    report.tests(
        "unit and snapshot tests, tests on real servers",
        &again,
        |tally| unit_tests(filter, mysqld.as_deref(), tally),
    );
    if let Some(mysqld) = mysqld.as_deref().filter(|_| named(DOCUMENT_TEST, filter)) {
        document(&mut report, mysqld);
    }
    if !arguments.no_cluster {
        end_to_end(&mut report, filter);
    }
    if !report.failed.is_empty() {
        println!("\nfailed:");
        for (stage, again) in &report.failed {
            println!("  {stage:<26} run it alone: {again}");
        }
    }
    println!("\n{} passed, {} failed", report.tally.passed, report.tally.failed);
    if report.failed.is_empty() && report.tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn checks(report: &mut Report, full: bool) {
    let cargo = |words: &[&str]| loudly(e2e::cargo().args(words));
    report.stage("formatting", "cargo fmt --all --check", || {
        cargo(&["fmt", "--all", "--", "--check", "-l"])
    });
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    report.stage("lints", &format!("cargo {}", lints.join(" ")), || cargo(&lints));
    report.stage(
        "generated files are fresh",
        "cargo xtask generate --check",
        || generate::run(&generate::Arguments::CHECK),
    );
    report.stage("bans, licences, sources", "cargo xtask test --full", || {
        deny(full)
    });
}

fn deny(full: bool) -> Result<()> {
    if !succeeds(e2e::cargo().args(["deny", "--version"])) {
        if !full {
            println!("    left out: cargo-deny is not installed; `cargo xtask test --full` installs it");
            return Ok(());
        }
        loudly(e2e::cargo().args(["install", "--locked", "--quiet", "cargo-deny"]))?;
    }
    loudly(e2e::cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}

/// The mysqld for tests on real servers: the one named in the environment, else the one of the MySQL image.
fn server(report: &mut Report, make: bool) -> Option<PathBuf> {
    if let Some(named) = host::environment(MYSQLD) {
        return Some(named.into());
    }
    let mut found = None;
    report.stage("a MySQL server for tests", &format!("{MYSQLD}=PATH cargo xtask test"), || {
        found = images::mysql::server(&host::cache_dir()?, make)?;
        if found.is_none() {
            println!("    left out: tests on real servers; name a mysqld in {MYSQLD}, or leave --no-cluster away");
        }
        Ok(())
    });
    found
}

fn unit_tests(filter: Option<&str>, mysqld: Option<&Path>, tally: &mut Tally) -> Result<()> {
    if let Some(mysqld) = mysqld {
        // The nodes' tests run the program itself, which no test depends on.
        run_quietly(e2e::cargo().args(["build", "--quiet", "--package", "supervisor"]))?;
        return libtest::run(workspace_tests(filter).env(MYSQLD, mysqld), tally);
    }
    libtest::run(&mut workspace_tests(filter), tally)
}

fn named(test: &str, filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| test.contains(filter))
}

/// What the nodes answer is what their document says.
fn document(report: &mut Report, mysqld: &Path) {
    let mut program = host::environment(SCHEMATHESIS).map(PathBuf::from);
    if program.is_none() {
        let again = format!("{SCHEMATHESIS}=PATH cargo xtask test");
        report.stage("schemathesis", &again, || {
            program = Some(schemathesis::program(&host::cache_dir()?)?);
            Ok(())
        });
    }
    let Some(program) = program else { return };
    let words = ["test", "--quiet", "--package", "node", "--test", "data_api"];
    let ignored = ["--", "--ignored", "--nocapture", DOCUMENT_TEST];
    let again = format!(
        "{MYSQLD}={} {SCHEMATHESIS}={} cargo {} {}",
        mysqld.display(),
        program.display(),
        words.join(" "),
        ignored.join(" ")
    );
    report.tests("the data API against its document", &again, |tally| {
        run_quietly(e2e::cargo().args(["build", "--quiet", "--package", "supervisor"]))?;
        let mut cargo = e2e::cargo();
        cargo.args(words).args(ignored);
        libtest::run(cargo.env(MYSQLD, mysqld).env(SCHEMATHESIS, &program), tally)?;
        ensure!(tally.passed == 1, "{DOCUMENT_TEST} was not run");
        Ok(())
    });
}

fn workspace_tests(filter: Option<&str>) -> Command {
    let mut cargo = e2e::cargo();
    cargo
        .args(["test", "--workspace", "--quiet", "--no-fail-fast", "--"])
        .args(filter);
    cargo
}

fn end_to_end(report: &mut Report, filter: Option<&str>) {
    let mut program = None;
    report.stage("end-to-end tests compile", "cargo test -p e2e --no-run", || {
        let words = ["test", "--package", "e2e", "--test", E2E_TESTS, "--no-run"];
        let built = e2e::build(&words, E2E_TESTS)?;
        let some = libtest::has_tests(&built, filter)?;
        ensure!(some || filter.is_some(), "{} has no tests", built.display());
        program = Some((built, e2e::plugin()?, some));
        Ok(())
    });
    let Some((program, plugin, some)) = program else {
        return;
    };
    if !some {
        println!("no end-to-end test is named like that, so no cluster is needed");
        return;
    }
    let mut place = None;
    report.stage(
        "cluster and images",
        "cargo xtask cluster up && cargo xtask images --load",
        || {
            place = Some(e2e::local()?);
            Ok(())
        },
    );
    let Some((cluster, images)) = place else { return };
    report.stage(
        "charts",
        "cargo xtask cluster exec -- helm lint charts/ddb-operator",
        || lint_charts(&cluster),
    );
    let again = "cargo xtask test --only NAME_OF_THE_TEST";
    report.tests("end-to-end tests", again, |tally| {
        let program = program
            .to_str()
            .context("the path of the target folder is not UTF-8")?;
        let mut command = cluster.inside(program);
        command
            .env("DDB_E2E_IMAGES", &images)
            .env(e2e::PLUGIN, &plugin)
            .env("DDB_E2E_LOCAL", std::process::id().to_string())
            // The error tells its whole chain; the stack below it is the test runner.
            .env("RUST_BACKTRACE", "0")
            .args(["--ignored", "--test-threads=1", "--nocapture"])
            .args(filter);
        libtest::run(&mut command, tally)
    });
    // The database that the tests share has no last user that could know it is the last.
    let namespaces = [
        "delete",
        "namespace",
        "--selector",
        "ddb-operator.io/e2e",
        "--wait=false",
    ];
    if let Err(error) = run_quietly(cluster.inside("kubectl").args(namespaces)) {
        println!("   the tests' namespaces could not be removed: {error:#}");
    }
}

fn lint_charts(cluster: &Cluster) -> Result<()> {
    let folder = host::repository().join("charts");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut linted = 0;
    for chart in entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_chart(path))
    {
        run_quietly(cluster.inside("helm").args(["lint", "--strict"]).arg(&chart))?;
        run_quietly(cluster.inside("helm").args(["template", "test"]).arg(&chart))?;
        if chart.ends_with("ddb-operator") {
            lint_monitoring(cluster, &chart)?;
        }
        linted += 1;
    }
    ensure!(linted > 0, "there is no chart in {}", folder.display());
    Ok(())
}

/// What is off by default is rendered whole when it is switched on, and not at all otherwise.
fn lint_monitoring(cluster: &Cluster, chart: &Path) -> Result<()> {
    let kinds = ["kind: PodMonitor", "kind: PrometheusRule", "grafana_dashboard:"];
    let render = |on: bool| {
        let mut helm = cluster.inside("helm");
        helm.args(["template", "test"]).arg(chart);
        for part in ["podMonitor", "rules", "dashboard"] {
            helm.args(["--set", &format!("monitoring.{part}={on}")]);
        }
        output(&mut helm)
    };
    let (on, off) = (render(true)?, render(false)?);
    for kind in kinds {
        ensure!(
            on.contains(kind),
            "{}: monitoring renders no `{kind}`",
            chart.display()
        );
        ensure!(
            !off.contains(kind),
            "{}: `{kind}` is rendered unasked",
            chart.display()
        );
    }
    for sentence in ["alert: DdbDown", "\"uid\": \"ddb-operator\""] {
        ensure!(
            on.contains(sentence),
            "{}: `{sentence}` was not rendered",
            chart.display()
        );
    }
    Ok(())
}

fn is_chart(path: &Path) -> bool {
    path.join("Chart.yaml").is_file()
}

/// Runs with its output where ours goes.
fn loudly(command: &mut Command) -> Result<()> {
    let status = command.status().context("cannot be started")?;
    if !status.success() {
        bail!("failed ({status}), see above");
    }
    Ok(())
}

impl Report {
    fn stage(&mut self, name: &str, again: &str, work: impl FnOnce() -> Result<()>) {
        println!("── {name}");
        let begun = host::now();
        let outcome = work();
        let seconds = begun.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => println!("── {name}: ok, {seconds:.1} s"),
            Err(error) => {
                println!("── {name}: FAILED, {seconds:.1} s: {error:#}");
                self.failed.push((name.to_owned(), again.to_owned()));
            }
        }
    }

    fn tests(&mut self, name: &str, again: &str, work: impl FnOnce(&mut Tally) -> Result<()>) {
        let mut tally = Tally::default();
        self.stage(name, again, || work(&mut tally));
        println!(
            "   {} passed, {} failed, {} ignored",
            tally.passed, tally.failed, tally.ignored
        );
        self.tally.add(tally);
    }
}
