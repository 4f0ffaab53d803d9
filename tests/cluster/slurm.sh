#!/bin/bash
# A real Slurm of one node on this machine, for tests: as root, on Debian or Ubuntu.
#
#   tests/cluster/slurm.sh start [--accounting]   installs what is missing, (re)starts the daemons
#   tests/cluster/slurm.sh stop
#   eval "$(tests/cluster/slurm.sh env)"          lets squeue, sbatch and pytest find it
#
# Everything lies in $TLX_SLURM_DIR (/tmp/tlx-slurm), on ports of its own: /etc/slurm stays as it
# is. Partitions: debug (default), low (preempted with 30 s of grace, then requeued) and high.
set -euo pipefail

dir=${TLX_SLURM_DIR:-/tmp/tlx-slurm}
export SLURM_CONF=$dir/slurm.conf
host=$(hostname -s)

installed() { command -v "$1" >/dev/null; }

install_missing() {
    local wanted=()
    installed slurmctld || wanted+=(slurmctld slurmd slurm-client munge)
    if [[ $accounting = yes ]] && ! installed slurmdbd; then wanted+=(slurmdbd mariadb-server); fi
    [[ ${#wanted[@]} = 0 ]] && return
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}"
}

write_slurm_conf() {
    local facts storage=accounting_storage/none
    facts=$(slurmd -C | grep -o 'CPUs=.*ThreadsPerCore=[0-9]*')
    [[ $accounting = yes ]] && storage=accounting_storage/slurmdbd
    echo "CgroupPlugin=cgroup/v1" >"$dir/cgroup.conf" # with linuxproc nothing of it is used
    cat >"$SLURM_CONF" <<CONF
ClusterName=tlx
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=$storage
AccountingStorageHost=localhost
AccountingStoragePort=16819
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
JobRequeue=1
KillWait=5
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 $facts RealMemory=${TLX_SLURM_MEMORY_MB:-8000} State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP
PartitionName=low Nodes=$host State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=high Nodes=$host State=UP PriorityTier=10 PreemptMode=OFF
CONF
}

write_slurmdbd_conf() {
    cat >"$dir/slurmdbd.conf" <<CONF
AuthType=auth/munge
DbdHost=localhost
DbdPort=16819
SlurmUser=root
LogFile=$dir/slurmdbd.log
PidFile=$dir/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=13307
StorageUser=root
StorageLoc=slurm_acct_db
CONF
    chmod 600 "$dir/slurmdbd.conf"
}

start_munge() {
    munge -n 2>/dev/null | unmunge >/dev/null 2>&1 && return
    mkdir -p /run/munge && chown munge:munge /run/munge && chmod 755 /run/munge
    su -s /bin/sh munge -c /usr/sbin/munged
    touch "$dir/munge.ours"
}

start_accounting() {
    local sql=(mariadb --socket="$dir/mysqld.sock")
    mkdir -p "$dir/db" && chown mysql:mysql "$dir" "$dir/db"
    [[ -d $dir/db/mysql ]] || mariadb-install-db --user=mysql --datadir="$dir/db" --skip-test-db \
        --auth-root-authentication-method=normal >"$dir/mariadb.log" 2>&1
    setsid mariadbd --user=mysql --datadir="$dir/db" --socket="$dir/mysqld.sock" \
        --pid-file="$dir/mariadbd.pid" --bind-address=127.0.0.1 --port=13307 \
        --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 >>"$dir/mariadb.log" 2>&1 &
    wait_for 30 "${sql[@]}" -e 'CREATE DATABASE IF NOT EXISTS slurm_acct_db'
    write_slurmdbd_conf
    slurmdbd
    wait_for 60 sacctmgr -n show cluster
    sacctmgr -iQ add cluster tlx >/dev/null || true # they are there after a first start
    sacctmgr -iQ add account a cluster=tlx >/dev/null || true
    sacctmgr -iQ add user root account=a cluster=tlx >/dev/null || true
}

wait_for() { # seconds command...
    local left=$1
    shift
    until "$@" >/dev/null 2>&1; do
        ((left-- > 0)) || { echo "gave up waiting for: $*; see $dir/*.log" >&2; return 1; }
        sleep 1
    done
}

idle() { sinfo -h -p debug -o %T | grep -Eq '^(idle|mixed|allocated)$'; }

start() {
    install_missing
    stop
    rm -rf "$dir/state" "$dir/spool" # jobs of an earlier start
    mkdir -p "$dir/state" "$dir/spool"
    write_slurm_conf
    start_munge
    [[ $accounting = yes ]] && start_accounting
    slurmctld
    slurmd
    wait_for 30 idle
    sinfo
}

nothing_queued() { [[ -z $(squeue -h) ]]; }

stop() {
    local name pid
    if [[ -s $dir/slurmctld.pid && -s $dir/slurmd.pid ]] && timeout 10 scontrol ping >/dev/null; then
        timeout 30 scancel -u "$(id -un)" || true # steps would outlive the daemons
        wait_for 20 nothing_queued || true
    fi
    for name in slurmd slurmctld slurmdbd mariadbd; do
        [[ -s $dir/$name.pid ]] || continue
        pid=$(cat "$dir/$name.pid")
        kill "$pid" 2>/dev/null || true
        wait_for 20 eval "! kill -0 $pid" || kill -9 "$pid"
        rm -f "$dir/$name.pid"
    done
    if [[ -e $dir/munge.ours ]]; then
        kill "$(cat /run/munge/munged.pid)" 2>/dev/null || true
        rm -f "$dir/munge.ours"
        sleep 1
    fi
}

accounting=no
[[ ${2:-} = --accounting ]] && accounting=yes
case ${1:-} in
start) start ;;
stop) stop ;;
env) echo "export SLURM_CONF=$SLURM_CONF" ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
