//! What the benches share: figures, and the table they are printed in.
//!
//! A bench is a plain program: a file beside this folder with `mod common;`, a `main` that fills a [`Table`], and
//! an entry in Cargo.toml (`[[bench]] name = "…" harness = false`). `cargo bench` runs them all.

// Each bench uses a part of it.
#![allow(dead_code)]

pub mod builds;

use std::time::Duration;

/// Rows of a name, a figure and what it includes; printed as they come.
pub struct Table;

impl Table {
    /// Prints the heading, unless this is no run of `cargo bench`: then there is nothing to do.
    pub fn begin(title: &str) -> Option<Table> {
        if !std::env::args().any(|argument| argument == "--bench") {
            println!("{title}: run it by `cargo bench`");
            return None;
        }
        println!("\n{title}\n{}", "-".repeat(title.len()));
        Some(Table)
    }

    // Whoever has a table has printed its heading.
    #[allow(clippy::unused_self)]
    pub fn row(&self, name: &str, figure: &str, what: &str) {
        println!("{name:<34} {figure:>22}  {what}");
    }

    /// The middle and the slow end of many measurements of one thing.
    pub fn spread(&self, name: &str, mut times: Vec<Duration>, what: &str) {
        times.sort();
        let [middle, slow] = [50, 95].map(|percent| millis(share(&times, percent)));
        self.row(name, &format!("{middle:.1} (p95 {slow:.1}) ms"), what);
    }

    pub fn rate(&self, name: &str, count: usize, took: Duration, what: &str) {
        self.row(name, &format!("{:.0} /s", count as f64 / took.as_secs_f64()), what);
    }
}

/// The time that so many percent of them stay within. They are sorted.
pub fn share(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() - 1) * percent / 100]
}

pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// What a process uses: resident memory in KiB, and the CPU time it has used so far.
pub fn usage(process: u32) -> (u64, Duration) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).expect("it runs");
    let status = read("status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
    let resident = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    // proc_pid_stat(5): utime and stime are the 14th and 15th field, in ticks; the second may have blanks in it.
    let stat = read("stat");
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .expect("a name in brackets")
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    // USER_HZ is 100 on every Linux of today.
    (resident, Duration::from_millis(ticks * 10))
}
