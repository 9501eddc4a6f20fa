//! Who gives a command.

use nix::unistd::{Uid, User, getuid};

use crate::model::Submitter;

/// The login name, also of those who have become another user since: by sudo, su or runuser.
pub fn login_name() -> Submitter {
    let kernel = std::fs::read_to_string("/proc/self/loginuid").ok();
    let uid = logged_in(kernel.as_deref(), std::env::var("SUDO_UID").ok().as_deref());
    let uid = uid.unwrap_or_else(getuid);
    let name = User::from_uid(uid).ok().flatten().and_then(|user| user.name.parse().ok());
    name.or_else(|| uid.to_string().parse().ok()).expect("a number is a submitter")
}

/// The kernel keeps whoever logged in (proc_pid_loginuid(5)); where nothing has told it, sudo(8) may know.
fn logged_in(kernel: Option<&str>, sudo: Option<&str>) -> Option<Uid> {
    let uid =
        |text: Option<&str>| text?.trim().parse().ok().filter(|uid| *uid != u32::MAX).map(Uid::from_raw);
    uid(kernel).or_else(|| uid(sudo))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_become_another_is_still_who_logged_in() {
        let uid = |kernel, sudo| logged_in(kernel, sudo).map(Uid::as_raw);
        assert_eq!(uid(Some("1000\n"), None), Some(1000));
        assert_eq!(uid(Some("1000"), Some("1001")), Some(1000));
        assert_eq!(uid(Some("4294967295"), Some("1001")), Some(1001));
        assert_eq!(uid(Some("4294967295"), Some("root")), None);
        assert_eq!(uid(None, None), None);
    }
}
