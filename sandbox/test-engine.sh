#!/bin/sh
# A container engine of its own for the tests, with a small image made from this machine's files: nothing is pulled.
#
#   test-engine.sh start DIR   starts dockerd with everything it writes in DIR, and imports the image
#   test-engine.sh stop DIR    stops it and removes DIR
#
# Needs root, dockerd and docker (Debian and Ubuntu: docker.io). After a start, tests are told of it with
#   PATCHWRIGHT_TEST_DOCKER_HOST=unix://DIR/docker.sock PATCHWRIGHT_TEST_IMAGE=patchwright-test:latest
set -eu

image=patchwright-test:latest
# One shell, linked statically, and nothing else: for what must run in any image.
bare=patchwright-bare:latest

fail() {
    echo "test-engine: $*" >&2
    exit 1
}

# The programs of the image: a shell, the usual tools, and Python for the tests that need to misbehave.
programs() {
    for name in sh cat chmod cp cut date dd env false git grep head hostname id ln ls mkdir mknod mktemp mv nohup od rm \
        sed setsid sleep sort stat tail test touch tr true uname wc which yes; do
        path=$(PATH=/usr/bin:/bin:/usr/sbin:/sbin command -v "/usr/bin/$name" || true)
        if [ -n "$path" ]; then echo "$path"; fi
    done
}

copy() { # file, root: the file and the libraries it needs
    mkdir -p "$2$(dirname "$1")"
    [ -e "$2$1" ] || cp -L "$1" "$2$1"
    ldd "$1" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
        [ -e "$2$library" ] && continue
        mkdir -p "$2$(dirname "$library")"
        cp -L "$library" "$2$library"
    done
}

build_root() { # root
    mkdir -p "$1/usr/bin" "$1/usr/lib" "$1/usr/lib64" "$1/usr/sbin" "$1/etc" "$1/tmp" "$1/proc" "$1/sys" "$1/dev" \
        "$1/workspace" "$1/home/agent"
    chmod 1777 "$1/tmp"
    for folder in bin lib lib64 sbin; do ln -s "usr/$folder" "$1/$folder"; done
    programs | while read -r program; do copy "$program" "$1"; done
    python=$(for path in /usr/bin/python3 /usr/local/bin/python3; do [ -x "$path" ] && echo "$path"; done | head -n 1)
    if [ -n "$python" ]; then
        version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        prefix=$(dirname "$(dirname "$python")")
        copy "$python" "$1"
        mkdir -p "$1$prefix/lib/$version"
        (cd "$prefix/lib/$version" && find . -maxdepth 4 -name '*.py' \
            -not -path '*/test/*' -not -path '*/site-packages/*' -not -path '*/dist-packages/*' \
            -not -path './idlelib/*' -not -path './lib2to3/*' -not -path './tkinter/*' -print |
            cpio --quiet -pdm "$1$prefix/lib/$version" 2>/dev/null ||
            cp -R "$prefix/lib/$version/." "$1$prefix/lib/$version/")
        if [ -d "$prefix/lib/$version/lib-dynload" ]; then
            cp -RL "$prefix/lib/$version/lib-dynload" "$1$prefix/lib/$version/"
            for module in "$prefix/lib/$version/lib-dynload"/*.so; do
                ldd "$module" | grep -o '/[^ ]*' | while read -r library; do copy "$library" "$1"; done
            done
        fi
    fi
    printf 'root:x:0:0::/root:/bin/sh\nagent:x:1000:1000::/home/agent:/bin/sh\n' >"$1/etc/passwd"
    printf 'root:x:0:\nagent:x:1000:\n' >"$1/etc/group"
    # The same files give the same image.
    find "$1" -exec touch -h -d @0 {} +
}

build_bare_root() { # root; fails without a busybox that needs no library
    shell=$(command -v busybox) || return 1
    if ldd "$shell" >/dev/null 2>&1; then return 1; fi
    mkdir -p "$1/bin" "$1/tmp" "$1/proc" "$1/sys" "$1/dev"
    cp -L "$shell" "$1/bin/busybox"
    for name in sh sleep test wget kill cat; do ln -s busybox "$1/bin/$name"; done
    find "$1" -exec touch -h -d @0 {} +
}

import() { # root, image
    tar --create --sort=name --numeric-owner --owner=0 --group=0 --mtime=@0 --directory "$1" . |
        docker import - "$2" >/dev/null
}

start() { # folder
    [ "$(id -u)" = 0 ] || fail "needs root"
    command -v dockerd >/dev/null || fail "needs dockerd: apt-get install docker.io"
    mkdir -p "$1"
    directory=$(cd "$1" && pwd)
    # A socket's path is short; no bridge and no packet filter: the tests' containers have no network.
    dockerd --host "unix://$directory/docker.sock" --data-root "$directory/data" --exec-root "$directory/exec" \
        --pidfile "$directory/docker.pid" --iptables=false --ip6tables=false --bridge=none \
        --add-runtime "other=$(command -v runc)" --add-runtime broken=/bin/false \
        >"$directory/dockerd.log" 2>&1 &
    echo $! >"$directory/started.pid"
    DOCKER_HOST="unix://$directory/docker.sock"
    export DOCKER_HOST
    tries=0
    until docker version >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ] || ! kill -0 "$(cat "$directory/started.pid")" 2>/dev/null; then
            tail -n 20 "$directory/dockerd.log" >&2
            fail "dockerd did not start"
        fi
        sleep 0.1
    done
    if ! docker image inspect "$image" >/dev/null 2>&1; then
        root=$(mktemp -d "$directory/root.XXXXXX")
        build_root "$root"
        import "$root" "$image"
        rm -rf "$root"
    fi
    if ! docker image inspect "$bare" >/dev/null 2>&1; then
        root=$(mktemp -d "$directory/root.XXXXXX")
        if build_bare_root "$root"; then import "$root" "$bare"; fi
        rm -rf "$root"
    fi
    echo "PATCHWRIGHT_TEST_DOCKER_HOST=unix://$directory/docker.sock"
    echo "PATCHWRIGHT_TEST_IMAGE=$image"
}

stop() { # folder
    [ -d "$1" ] || return 0
    directory=$(cd "$1" && pwd)
    if [ -f "$directory/started.pid" ]; then
        pid=$(cat "$directory/started.pid")
        DOCKER_HOST="unix://$directory/docker.sock" docker ps -aq 2>/dev/null |
            DOCKER_HOST="unix://$directory/docker.sock" xargs -r docker rm -f >/dev/null 2>&1 || true
        kill "$pid" 2>/dev/null || true
        tries=0
        while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 300 ]; do
            tries=$((tries + 1))
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null || true
    fi
    grep " $directory/" /proc/mounts | cut -d ' ' -f 2 | sort -r | while read -r point; do
        umount "$point" 2>/dev/null || true
    done
    rm -rf "$directory"
}

case "${1:-} ${2:+folder}" in
"start folder") start "$2" ;;
"stop folder") stop "$2" ;;
*) fail "usage: test-engine.sh start DIR | stop DIR" ;;
esac
