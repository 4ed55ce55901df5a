//! The program: see [`imgsh::front`].

fn main() -> std::process::ExitCode {
    imgsh::front::main()
}
