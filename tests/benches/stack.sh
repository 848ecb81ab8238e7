#!/bin/sh
# The yardstick: a stack deployed, awaited and taken down as a careful script does it. It prints three times in
# nanoseconds since the epoch: when it began, when the stack was up, when nothing of it was left.
#
# stack.sh SOCKET STACK COMPOSE
set -eu
DOCKER_HOST=$1 STACK_NAME=$2
export DOCKER_HOST STACK_NAME
label=label=com.docker.stack.namespace=$STACK_NAME

date +%s%N
printf secret | docker secret create "${STACK_NAME}_key_v1" - >/dev/null
docker stack deploy --resolve-image never -c "$3" "$STACK_NAME" >/dev/null
services=$(docker service ls -q --filter "$label" | wc -l)
until [ "$(docker service ls --filter "$label" --format '{{.Replicas}}' | grep -c '^1/1')" = "$services" ]; do
	sleep 0.1
done
date +%s%N

docker stack rm "$STACK_NAME" >/dev/null
while [ -n "$(docker ps -aq --filter "$label")" ]; do
	sleep 0.1
done
docker volume ls -q --filter "$label" | xargs -r docker volume rm >/dev/null
docker secret rm "${STACK_NAME}_key_v1" >/dev/null
while [ -n "$(docker network ls -q --filter "$label")$(docker config ls -q --filter "$label")" ]; do
	sleep 0.1
done
date +%s%N
