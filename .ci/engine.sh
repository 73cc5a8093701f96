# A container engine of this run's own, for a machine where none answers. Sourced by .ci/run.
#
# All its state, containerd's included, is in one fresh folder: nothing that another engine left
# behind, alive or killed a second ago, can be in its way, and nothing of it remains.

ENGINE_FOLDER=

install_packages() {
    [ "$(id -u)" = 0 ] || { echo "missing: $*; install them, or run as root" >&2; return 1; }
    local apt=(apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
    "${apt[@]}" update
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends "$@"
}

# Exports DOCKER_HOST, unless an engine answers already. `stop_engine` must follow in any case.
start_engine() {
    if timeout 60 docker info >/dev/null 2>&1; then
        echo "using the container engine that answers here"
        return
    fi
    local missing=()
    if ! command -v dockerd || ! command -v containerd || ! command -v docker; then
        missing+=(docker.io)
    fi >/dev/null
    command -v iptables >/dev/null || missing+=(iptables)
    grep -q ' cgroup2\? ' /proc/self/mounts || missing+=(cgroupfs-mount)
    if [ "${#missing[@]}" != 0 ]; then
        install_packages "${missing[@]}"
        # Newer releases have the client in a package of its own.
        command -v docker >/dev/null || install_packages docker-cli
    fi
    case " ${missing[*]} " in *cgroupfs-mount*) cgroupfs-mount ;; esac

    ENGINE_FOLDER=$(mktemp -d /var/tmp/sdb-engine.XXXXXX)
    local folder=$ENGINE_FOLDER
    cat >"$folder/containerd.toml" <<TOML
version = 2
root = "$folder/containerd"
state = "$folder/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$folder/containerd.sock"
TOML
    echo '{}' >"$folder/daemon.json"
    containerd --config "$folder/containerd.toml" </dev/null >"$folder/containerd.log" 2>&1 &
    CONTAINERD=$!
    await containerd "$CONTAINERD" test -S "$folder/containerd.sock"
    # Sandboxes have no network and builds use the host's, so the engine needs none of its own.
    dockerd --config-file="$folder/daemon.json" --containerd="$folder/containerd.sock" \
        --host="unix://$folder/docker.sock" --pidfile="$folder/docker.pid" \
        --data-root="$folder/data" --exec-root="$folder/exec" --bridge=none --iptables=false \
        </dev/null >"$folder/dockerd.log" 2>&1 &
    DOCKERD=$!
    export DOCKER_HOST=unix://$folder/docker.sock
    await dockerd "$DOCKERD" docker info
    docker info --format 'started engine {{.ServerVersion}}, {{.Driver}}, cgroup v{{.CgroupVersion}}'
}

# Waits until a command succeeds, and fails with the log if the process ends before or is too slow.
await() {
    local name=$1 pid=$2
    shift 2
    for _ in $(seq 600); do
        if timeout 60 "$@" >/dev/null 2>&1; then return; fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.5
    done
    echo "$name did not start:" >&2
    tail -n 30 "$ENGINE_FOLDER/$name.log" >&2
    return 1
}

stop_engine() {
    [ -n "$ENGINE_FOLDER" ] || return 0
    local pid folder=$ENGINE_FOLDER
    ENGINE_FOLDER=
    for pid in ${DOCKERD:-} ${CONTAINERD:-}; do
        kill "$pid" 2>/dev/null || true
        timeout 60 tail --pid="$pid" -f /dev/null || kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    # An engine that had to be killed leaves mounts, which must go before their folder.
    awk -v top="$folder/" 'index($2, top) == 1 { print $2 }' /proc/self/mounts | sort -r |
        while read -r mount; do umount -l "$mount" || true; done
    rm -rf --one-file-system "$folder" || true
}
