# What the demonstration and the examples share; to be sourced at the top of the repository by a script
# that has set:
#   me        its name, for errors
#   root      the root folder of reimzul
#   steps     how many steps it has
# and that sets, before it calls what is about a target:
#   name, target, disttag    `mini`, `mini.x86_64`, `.mini1`
#   repository               where the target's builds go

# shellcheck shell=bash disable=SC2154  # see above
packages=examples/packages
step=0

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' plain=$'\e[0m'
else
    bold='' dim='' green='' plain=''
fi

# --- saying ----------------------------------------------------------------------------------

step() {
    step=$((step + 1))
    printf '\n%s%s[%d/%d]%s %s%s%s\n' "$bold" "$green" "$step" "$steps" "$plain" "$bold" "$*" "$plain"
}

say() {
    printf '      %s\n' "$*"
}

# Show a command as one would type it, then run it.
run() {
    printf '%s    $ %s%s\n' "$dim" "$*" "$plain"
    "$@"
}

indented() {
    sed -u 's/^/      /'
}

fail() {
    printf '%s: %s\n' "$me" "$*" >&2
    exit 1
}

# --- what is there ---------------------------------------------------------------------------

# Version and release of packages, as their specs are now.
declare -A evr_of=()
know() {
    local package evr specs=()
    for package in "$@"; do
        specs+=("$packages/$package/$package.spec")
    done
    while read -r package evr; do
        evr_of[$package]=$evr
    done < <(rpmspec -q --srpm --define "dist $disttag" --qf '%{name} %{version}-%{release}\n' "${specs[@]}")
}

# The folder of the newest build of a package for an arch, as its spec and sources are now; fails if there is
# none with RPMs.
built() {
    local package=$1 arch=$2 build newest=
    [[ -n ${evr_of[$package]:-} ]] || know "$package"
    for build in "$repository/$package"/*/"${evr_of[$package]}.$arch"; do
        if [[ -e $build/build.json ]] && compgen -G "$build/*.rpm" >/dev/null &&
            [[ -z $(find "$packages/$package" -type f -newer "$build/build.json") ]]; then
            newest=$build
        fi
    done
    [[ -n $newest ]] && echo "$newest"
}

is_built() {
    built "$@" >/dev/null
}

print_repo() {
    cat <<END
[$target]
name = $name, built here
baseurl = file://$(realpath "$repository")/
gpgcheck = 0
END
}

# --- installing ------------------------------------------------------------------------------

# Runs a command as root of a scratch root: as we are, or in a user namespace of our own.
as_root=()
may_install() {
    [[ $(id -u) == 0 ]] && return 0
    as_root=(unshare --map-auto --map-root-user)
    "${as_root[@]}" true 2>/dev/null
}

# install_into FOLDER ARCH TARGETFILE PACKAGE...: a new root, from the target's repositories and what was built.
install_into() {
    local scratch=$1 arch=$2 target_file=$3 dnf_home=$root/dnf releasever=1 forced=()
    shift 3
    "${as_root[@]}" rm -rf --one-file-system "$scratch"
    rm -rf "$dnf_home/repos.d"
    mkdir -p "$scratch" "$dnf_home/repos.d"
    # The target's repositories as dnf wants them, and the one that was filled.
    awk -v root="$(realpath "$root")" '
        /^\[/ { ours = ($1 == "[reimzul]") }
        !ours { gsub(/\$root/, root); print }' "$target_file" >"$dnf_home/repos.d/target.repo"
    print_repo >"$dnf_home/repos.d/built.repo"
    if [[ -e /etc/debian_version ]]; then
        # Debian keeps the database of RPMs in the user's home; no other system would look there.
        echo '%_dbpath /var/lib/rpm' >"$dnf_home/.rpmmacros"
    else
        releasever=/
    fi
    [[ $arch != i386 ]] || forced=(--forcearch=i686)
    HOME=$(realpath "$dnf_home") "${as_root[@]}" dnf -q -y "${forced[@]}" \
        --noplugins --installroot="$(realpath "$scratch")" --releasever="$releasever" \
        --setopt=reposdir="$(realpath "$dnf_home/repos.d")" \
        --setopt=cachedir="$(realpath "$dnf_home")/cache" \
        --setopt=install_weak_deps=False --setopt=tsflags=nodocs --refresh \
        install "$@" >"$dnf_home/install.log" 2>&1 || {
        tail -n 20 "$dnf_home/install.log" >&2
        fail "dnf could not install the packages; all it said is in $dnf_home/install.log"
    }
    say "$(du -sh "$scratch" 2>/dev/null | cut -f 1) in $scratch"
}

in_scratch() {
    local scratch=$1
    shift
    printf '%s    $ chroot %s %s%s\n' "$dim" "$scratch" "$*" "$plain"
    "${as_root[@]}" env -i PATH=/usr/sbin:/usr/bin LANG=C.UTF-8 chroot "$scratch" "$@" | indented
}
