//! The `reimzul` command; all of it is in the library.

use std::process::ExitCode;

use reimzul::sys::sandbox;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // Before anything else: as the init of a sandbox this program must not have started threads.
    if arguments.next().is_some_and(|first| first == sandbox::SUBCOMMAND) {
        return ExitCode::from(u8::try_from(sandbox::stage2(arguments)).unwrap_or(1));
    }
    reimzul::cli::main()
}
