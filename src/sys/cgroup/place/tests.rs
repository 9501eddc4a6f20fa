//! Places, on folder trees that look like machines of every kind.

use super::*;
use crate::sys::cgroup::Cgroups;

/// A machine: its /proc/self, and cgroup folders, in a temporary place. `@` in texts is that place.
struct Machine {
    top: tempfile::TempDir,
}

impl Machine {
    fn new(mountinfo: &str, cgroup: &str, folders: &[&str]) -> Machine {
        let machine = Machine { top: tempfile::tempdir().unwrap() };
        machine.write("proc/mountinfo", mountinfo);
        machine.write("proc/cgroup", cgroup);
        for folder in folders {
            std::fs::create_dir_all(machine.path(folder)).unwrap();
        }
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.top.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.replace('@', self.top.path().to_str().unwrap())).unwrap();
    }

    fn place(&self, controller: Controller) -> Result<PathBuf, String> {
        let found = Cgroups::read(&self.path("proc"));
        found
            .place(controller)
            .map(Path::to_owned)
            .map_err(|why| why.replace(self.top.path().to_str().unwrap(), "@"))
    }
}

const V1: &str = "\
31 23 0:28 / @/cg rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / @/cg/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / @/cg/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / @/cg/pids rw,relatime - cgroup cgroup rw,pids
";
const V2: &str = "29 23 0:26 / @/cg rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

#[test]
fn version_1_has_a_place_per_hierarchy() {
    let own = "4:memory:/a\n3:cpu,cpuacct:/\n2:pids:/a/b\n1:name=systemd:/c\n";
    let machine = Machine::new(V1, own, &["cg/cpu,cpuacct", "cg/memory/a", "cg/pids/a/b"]);
    assert_eq!(machine.place(Controller::Memory), Ok(machine.path("cg/memory/a")));
    assert_eq!(machine.place(Controller::Pids), Ok(machine.path("cg/pids/a/b")));
    assert_eq!(machine.place(Controller::Cpu), Ok(machine.path("cg/cpu,cpuacct")));
    assert_eq!(machine.place(Controller::Cpuacct), Ok(machine.path("cg/cpu,cpuacct")));
}

#[test]
fn version_2_has_one_place_and_says_which_controllers_it_lacks() {
    let machine = Machine::new(V2, "0::/box\n", &["cg/box"]);
    machine.write("cg/box/cgroup.controllers", "cpuset cpu memory\n");
    assert_eq!(machine.place(Controller::Memory), Ok(machine.path("cg/box")));
    assert_eq!(machine.place(Controller::Cpuacct), Ok(machine.path("cg/box")));
    assert_eq!(
        machine.place(Controller::Pids),
        Err("our cgroup @/cg/box does not have the controller pids".into())
    );
}

#[test]
fn a_hybrid_machine_serves_each_controller_where_it_is() {
    let mounts =
        format!("{}41 31 0:38 / @/cg/unified rw - cgroup2 cgroup2 rw\n", V1.replace("rw,memory", "rw,blkio"));
    let own = "4:blkio:/\n3:cpu,cpuacct:/\n2:pids:/\n0::/two\n";
    let machine = Machine::new(&mounts, own, &["cg/cpu,cpuacct", "cg/pids", "cg/unified/two"]);
    machine.write("cg/unified/two/cgroup.controllers", "memory\n");
    assert_eq!(machine.place(Controller::Memory), Ok(machine.path("cg/unified/two")));
    assert_eq!(machine.place(Controller::Pids), Ok(machine.path("cg/pids")));
}

#[test]
fn a_second_worker_finds_its_place_beside_the_first() {
    let machine = Machine::new(V2, &format!("0::/box/{LEAF}\n"), &[&format!("cg/box/{LEAF}")]);
    machine.write("cg/box/cgroup.controllers", "memory\n");
    assert_eq!(machine.place(Controller::Memory), Ok(machine.path("cg/box")));
}

#[test]
fn a_container_sees_its_own_part_of_the_hierarchy() {
    // As docker mounts it: our path is the host's, the mount's root is part of it.
    let mounts = "35 31 0:32 /docker/f00 @/cg/memory ro - cgroup cgroup rw,memory\n";
    let machine = Machine::new(mounts, "4:memory:/docker/f00/sub\n", &["cg/memory/sub"]);
    assert_eq!(machine.place(Controller::Memory), Ok(machine.path("cg/memory/sub")));
    let elsewhere = Machine::new(mounts, "4:memory:/docker/other\n", &[]);
    assert_eq!(
        elsewhere.place(Controller::Memory),
        Err("our cgroup /docker/other is in no mounted cgroup file system".into())
    );
    // As a cgroup namespace shows a group outside of it.
    let outside = Machine::new(&V1.replace("/docker", ""), "4:memory:/../x\n", &["cg/memory", "cg/x"]);
    assert!(outside.place(Controller::Memory).unwrap_err().contains("is in no mounted"));
}

#[test]
fn where_no_group_can_be_made_it_is_said_why() {
    let none = Machine::new("31 23 0:28 / /sys rw - sysfs sysfs rw\n", "", &[]);
    assert_eq!(
        none.place(Controller::Memory),
        Err("no cgroup file system with the controller memory is mounted".into())
    );
    let gone = Machine::new(V1, "4:memory:/gone\n", &["cg/memory"]);
    assert_eq!(
        gone.place(Controller::Memory),
        Err("no cgroup can be made in @/cg/memory/gone: No such file or directory".into())
    );
}

#[test]
fn what_systemd_keeps_to_itself_is_left_to_it() {
    let own = "0::/system.slice/reimzul.service\n";
    let machine = Machine::new(V2, own, &["cg/system.slice/reimzul.service"]);
    machine.write("cg/system.slice/reimzul.service/cgroup.controllers", "memory pids cpu\n");
    let why = machine.place(Controller::Memory).unwrap_err();
    assert!(
        why.starts_with("our cgroup belongs to systemd's reimzul.service, which is not delegated"),
        "{why}"
    );
    let user = Machine::new(
        V2,
        "0::/user.slice/user-1.slice/session-2.scope\n",
        &["cg/user.slice/user-1.slice/session-2.scope"],
    );
    user.write("cg/user.slice/user-1.slice/session-2.scope/cgroup.controllers", "memory pids cpu\n");
    assert!(user.place(Controller::Pids).unwrap_err().contains("session-2.scope"));
}

#[test]
fn blanks_in_mount_points_are_understood() {
    assert_eq!(unescape(r"/a\040b\134c"), Path::new(r"/a b\c"));
    assert_eq!(unescape(r"/a\"), Path::new(r"/a\"));
    assert_eq!(mount("nonsense"), None);
    assert_eq!(memberships("nonsense\n1\n"), []);
}
