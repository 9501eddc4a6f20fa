use std::process::ExitCode;

use reimzul::sys::sandbox;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (Some(sandbox::SUBCOMMAND), Some(json)) => {
            ExitCode::from(u8::try_from(sandbox::stage2(&json)).unwrap_or(1))
        }
        _ => ExitCode::from(2),
    }
}
