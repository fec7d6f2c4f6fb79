#!/bin/sh
# Makes sure that the commands and libraries named as arguments exist, and installs the packages that bring the missing ones.
#
# Installs by itself where apt-get is, with sudo unless run as root; elsewhere it prints the line to run. Says nothing when nothing is
# missing. Debian starts a server as soon as it is installed, and again at every boot: neither is wanted here, where each is started on
# a port of its own, so both are prevented for those installed by us. One that was there before is left alone.
set -eu

have() {
    case $1 in
        python3-venv) python3 -c 'import ensurepip, venv' ;;
        php-redis) php -r 'exit(extension_loaded("redis") ? 0 : 1);' ;;
        ruby-redis) ruby -e 'require "redis"' ;;
        libhiredis-dev) echo '#include <hiredis/hiredis.h>' | cc -E - ;;
        *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

debian_package() {
    case $1 in
        cc) echo gcc libc6-dev ;;
        redis-cli) echo redis-tools ;;
        tclsh) echo tcl ;;
        node) echo nodejs ;;
        php) echo php-cli ;;
        *) echo "$1" ;;
    esac
}

other_package() {
    case $1 in
        cc) echo gcc ;;
        redis-server | redis-cli) echo redis ;;
        python3-venv) echo python3 ;;
        nutcracker) echo twemproxy ;;
        tclsh) echo tcl ;;
        node) echo nodejs ;;
        php-redis) echo php-pecl-redis ;;
        ruby-redis) echo rubygem-redis ;;
        libhiredis-dev) echo hiredis-devel ;;
        *) echo "$1" ;;
    esac
}

packages() {
    for command in $missing; do "$@" "$command"; done | tr ' ' '\n' | sort -u | tr '\n' ' '
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# An exit code of 101 is policy-rc.d's word for "do not start it". A policy that is there already belongs to the machine.
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
ours=
clean_up() {
    rm -f "$log"
    if [ "$ours" ]; then as_root rm -f "$policy"; fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

missing=
for command in "$@"; do
    have "$command" || missing="$missing $command"
done
case $missing in
    '') exit 0 ;;
    *cargo*)
        echo "cargo is missing: install Rust as https://rustup.rs says" >&2
        exit 1
        ;;
esac

if ! have apt-get; then
    installer='install with your package manager:'
    if have dnf; then installer='run: sudo dnf install'; fi
    if have brew; then installer='run: brew install'; fi
    echo "missing:$missing; $installer $(packages other_package)" >&2
    exit 1
fi
wanted=$(packages debian_package)
if [ "$(id -u)" != 0 ] && ! have sudo; then
    echo "missing:$missing; run as root: apt-get install $wanted" >&2
    exit 1
fi

install() {
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root sh -c "cat >$policy && chmod +x $policy" || return
        ours=yes
    fi
    as_root apt-get update -qq || return
    # shellcheck disable=SC2086 # the packages are words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $wanted
}

echo "installing $wanted"
if ! install >"$log" 2>&1; then
    cat "$log" >&2
    echo "missing:$missing; run as root: apt-get install $wanted" >&2
    exit 1
fi
if have systemctl; then
    for service in redis-server nutcracker; do
        case " $missing " in *" $service "*) as_root systemctl --quiet disable "$service" || true ;; esac
    done
fi
