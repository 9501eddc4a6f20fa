//! The `reimzul` command; all of it is in the library.

use std::process::ExitCode;

use reimzul::sys::sandbox;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    // Before anything else: as the init of a sandbox this program must not have started threads.
    if arguments.next().as_deref() == Some(sandbox::SUBCOMMAND) {
        let task = arguments.next().unwrap_or_default();
        return ExitCode::from(u8::try_from(sandbox::stage2(&task)).unwrap_or(1));
    }
    reimzul::cli::main()
}
