#!/bin/bash
# A SLURM of two nodes on this one machine, for tests/test_slurm.py; as root, on Debian or Ubuntu.
#   start.sh FOLDER
# `export SLURM_CONF=FOLDER/slurm.conf` then reaches it.
set -euo pipefail
folder=$(realpath "$1")
mkdir -p "$folder"/{state,spool-n1,spool-n2} /run/munge
host=$(hostname -s)

cat > "$folder/slurm.conf" <<CONF
ClusterName=inverters
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=20
MpiDefault=none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=1 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=1 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
for node in n1 n2; do grep -q " $node\$" /etc/hosts || echo "127.0.0.1 $node" >> /etc/hosts; done

chown munge /run/munge
pgrep munged > /dev/null || runuser -u munge -- munged
export SLURM_CONF="$folder/slurm.conf"
slurmctld
for node in n1 n2; do slurmd -N "$node"; done
for _ in $(seq 60); do
  if [ "$(sinfo --noheader --format=%T | sort -u)" = idle ]; then exit 0; fi
  sleep 0.5
done
sinfo --long --Node >&2
exit 1
