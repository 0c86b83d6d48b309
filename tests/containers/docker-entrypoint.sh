#!/usr/bin/env bash
# What the official image's own one does, by its documentation: settings from the environment, then a process of Flink.
set -e
settings=("-Djobmanager.rpc.address=${JOB_MANAGER_RPC_ADDRESS:-$HOSTNAME}" -Dblob.server.port=6124)
while IFS=: read -r key value; do
  [ -z "$key" ] || settings+=("-D$key=$(envsubst <<< "$value")")
done < <(tr -d ' \t' <<< "$FLINK_PROPERTIES") # all white space, also that within a value
"$FLINK_HOME/bin/config-parser-utils.sh" "$FLINK_HOME/conf" "$FLINK_HOME/bin" "$FLINK_HOME/lib" "${settings[@]}"
export LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2
case "$1" in
  jobmanager | taskmanager | standalone-job) exec "$FLINK_HOME/bin/$1.sh" start-foreground "${@:2}" ;;
  *) exec "$@" ;;
esac
