use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == patchwright::sandbox::namespace::HELPER_ARGUMENT) {
        return patchwright::sandbox::namespace::helper_main();
    }
    ExitCode::FAILURE
}
