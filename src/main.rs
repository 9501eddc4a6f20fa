//! The `reimzul` command; all of it is in the library.

fn main() -> std::process::ExitCode {
    reimzul::cli::main()
}
