#!/bin/sh
# A stand-in for mock(1): options, logs, exit statuses and leftovers as mock's. What a build does is in `behaviour`
# beside it, which is read by the shell; every call is a line of `calls`, its arguments separated by US (037).
here=$(dirname "$0")
line=$(printf '%s\037' "$@")
printf '%s\n' "$line" >> "$here/calls"

mode=build resultdir= config= ext= root= srpm=
while [ $# -gt 0 ]; do
    case $1 in
        -r) config=$2; shift ;;
        --resultdir) resultdir=$2; shift ;;
        --configdir) configdir=$2; shift ;;
        --uniqueext) ext=$2; shift ;;
        --define | --rpmbuild_timeout) shift ;;
        --config-opts) root=${2#root=}; shift ;;
        --version) echo 6.7; exit 0 ;;
        --orphanskill | --clean | --print-root-path) mode=${1#--} ;;
        --cleanup-after | --no-bootstrap-chroot) ;;
        *) srpm=$1 ;;
    esac
    shift
done
[ -f "$config" ] || { echo "ERROR: Could not find required config file: $config" >&2; exit 3; }
[ -n "$root" ] || root=$(sed -n "s/^config_opts\['root'\] = '\(.*\)'/\1/p" "$config")
chroot=$here/lib/$root-$ext
pkg=$(basename "$srpm")

now() { date +'%Y-%m-%d %H:%M:%S,%N' | cut -c1-23; }
state() { echo "$(now) - $*" >> "$resultdir/state.log"; }
root_log() { printf 'DEBUG util.py:610:  %s\n' "$@" >> "$resultdir/root.log"; }
# As far as a chroot with what every build needs.
init() {
    mkdir -p "$chroot/root"
    state "Mock Version: 6.7"
    echo "DEBUG buildroot.py:332:  rootdir = $chroot/root" >> "$resultdir/root.log"
    echo "Mock Version: 6.7" > "$resultdir/build.log"
    state "Start: chroot init"
    state "Finish: chroot init"
}
setup() { init; state "Start: build setup for $pkg"; }
rpmbuild() {
    setup
    state "Finish: build setup for $pkg"
    echo "gcc-12-1.x86_64 1700000000 100 aaaa installed
bash-5-1.x86_64 1700000000 100 bbbb installed" > "$resultdir/installed_pkgs.log"
    state "Start: rpmbuild $pkg"
    printf '\n%s\n' "Executing command: ['bash', '--login', '-c', 'rpmbuild -bb']" >> "$resultdir/build.log"
}
# Logs, says and ends as mock does when a command in the chroot fails.
fail() {
    echo "Child return code was: 1" >> "$resultdir/build.log"
    echo "ERROR: Exception($srpm) Config(x) 0 minutes 1 seconds" >&2
    echo "ERROR: Command failed: " >&2
    cleanup
    exit "$1"
}
dnf_fails() {
    root_log "Executing command: ['/usr/bin/dnf-3', 'builddep']" "$@" "Child return code was: 1"
    root_log "Executing command: ['/bin/umount', '-n']" "Child return code was: 0"
}
cleanup() { state "Start: clean chroot"; rm -rf "$chroot"; state "Finish: clean chroot"; }
succeed() {
    state "Finish: rpmbuild $pkg"
    touch "$resultdir/$pkg"
    cp "$here/result.rpm" "$resultdir/"
    cleanup
    exit 0
}
# Something in the chroot that outlives mock, whatever signal mock gets.
sleep_in_chroot() {
    setsid sleep "$1" > /dev/null 2>&1 < /dev/null &
    echo $! > "$chroot/pid"
}

case $mode in
    print-root-path) echo "$chroot/root/" ;;
    orphanskill)
        [ ! -f "$chroot/pid" ] || kill -9 "$(cat "$chroot/pid")"
        ;;
    clean) rm -rf "$chroot" ;;
    build) . "$here/behaviour" ;;
esac
