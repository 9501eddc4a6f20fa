//! As strict as mock: what a build cannot see, reach or be.

use crate::harness::{Site, script};

/// Builds a package whose %build is this script; every line must succeed.
async fn holds(name: &str, lines: &str) {
    let site = Site::shared();
    let built = site.build(&site.srpm(name, &script("", &format!("%build\nset -x\n{lines}\n")), &[])).await;
    built.succeeded();
}

#[tokio::test]
async fn nothing_of_the_host_is_visible() {
    // The mini distribution's root has no such folders; the machine that tests run on has the first at least.
    let here = env!("CARGO_MANIFEST_DIR");
    holds(
        "no-host",
        &format!(
            "test ! -e {here}\ntest ! -e /root/.cargo\ntest ! -e /root/.rustup\ntest ! -e /host\n\
             test -z \"$(ls /sys)\"\ntest \"$(hostname)\" = localhost\n\
             test \"$(ls -d /proc/[0-9]* | wc -l)\" -lt 10\ntest -z \"$CARGO_MANIFEST_DIR\"\n\
             test \"$HOME\" = /builddir\ntest ! -e /dev/sda\ntest ! -e /dev/vda\ntest ! -e /dev/kmsg\n\
             test \"$(ls /proc/self/fd | wc -l)\" -le 4"
        ),
    )
    .await;
}

#[tokio::test]
async fn there_is_no_network_but_lo() {
    let site = Site::shared();
    // A listener of the host's, on every address it has.
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let python = format!(
        "import socket, sys\n\
         for address in (('127.0.0.1', {port}), ('192.0.2.1', 80), ('8.8.8.8', 53)):\n\
         \x20   try:\n\
         \x20       socket.create_connection(address, 2)\n\
         \x20   except OSError as error:\n\
         \x20       print(address, error)\n\
         \x20   else:\n\
         \x20       sys.exit('reached %s' % (address,))\n\
         server = socket.create_server(('127.0.0.1', 0))\n\
         socket.create_connection(server.getsockname(), 2)\n\
         assert [name for _, name in socket.if_nameindex()] == ['lo'], socket.if_nameindex()\n"
    );
    let rest = script("Source0: net.py\nBuildRequires: python3", "%build\npython3 %{SOURCE0}\n");
    site.build(&site.srpm("no-network", &rest, &[("net.py", &python)])).await.succeeded();
}

#[tokio::test]
async fn a_build_is_nobody_in_particular() {
    holds(
        "nobody",
        "test \"$(id -u)\" = 1000\ntest \"$(id -un)\" = mockbuild\ntest \"$(id -G)\" = 1000\n\
         grep -q 'NoNewPrivs:.*1' /proc/self/status\ngrep -q 'CapEff:.*0000000000000000' /proc/self/status\n\
         ! touch /usr/x\n! touch /etc/passwd\n! kill -0 1\ntest \"$(umask)\" = 0022\n\
         ! ls /proc/1/root/\n! mount -t tmpfs none /tmp",
    )
    .await;
}

#[tokio::test]
async fn what_programs_expect_is_there() {
    holds(
        "expected",
        "echo > /dev/null\nhead -c 1 /dev/zero > x\ntest -w /dev/shm\ntest -w /tmp\ntest -w /var/tmp\n\
         head -c 8 /dev/urandom > x\ntest -c /dev/full\ntest -e /dev/ptmx\ntest -e /proc/cpuinfo\n\
         ! echo x > /dev/full\necho x > /dev/stderr\ngrep -q localhost /etc/hosts\n\
         test -e /proc/self/mounts",
    )
    .await;
}

#[tokio::test]
async fn builds_leave_nothing_in_the_base() {
    let site = Site::shared();
    let sections =
        "%build\ntest ! -e /var/tmp/mark\ntest ! -e /builddir/mark\ntouch /var/tmp/mark /builddir/mark\n";
    for name in ["mark-one", "mark-two"] {
        site.build(&site.srpm(name, &script("BuildRequires: m4", sections), &[])).await.succeeded();
    }
    let without = site.build(&site.srpm("no-m4", &script("", "%build\nm4 --version\n"), &[])).await;
    assert!(without.failure().lines[0].ends_with("m4: not found"), "{:?}", without.failure().lines);
}

#[tokio::test]
async fn links_among_the_results_are_not_followed() {
    let site = Site::shared();
    let sections = "%build\ncd /builddir/build/RPMS\n\
                    ln -s /etc/passwd stolen-1-1.x86_64.rpm\nln -s /proc/1/root/etc more\n\
                    mkfifo fifo-1-1.x86_64.rpm\ntouch -- -rf.rpm 'a b.rpm' .hidden.rpm\n";
    let built = site.build(&site.srpm("hostile", &script("", sections), &[])).await;
    // What a build should not have made is not passed over: somebody would miss it.
    let failure = built.failure();
    assert_eq!(failure.class, reimzul::model::Class::Packaging);
    assert_eq!(failure.lines.len(), 5, "{failure}");
    for why in
        ["'-rf.rpm' begins with", "'.hidden.rpm' begins", "'a b.rpm' has", "is a FIFO", "is a symbolic link"]
    {
        assert!(failure.lines.iter().any(|line| line.contains(why)), "{why}: {failure}");
    }
    assert_eq!(built.rpms(), [""; 0]);
    let sections = "%install\nrm -rf /builddir/build/RPMS\nln -s /proc/1/fd /builddir/build/RPMS\n";
    let built = site.build(&site.srpm("hostile-folder", &script("", sections), &[])).await;
    assert!(built.outcome.result.is_err());
    assert_eq!(built.rpms(), [""; 0]);
}
