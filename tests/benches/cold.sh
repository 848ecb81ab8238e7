#!/bin/sh
# The yardstick of a cold run: what the recipe's own containers need, by hand. A release is deployed and awaited, the
# next one is deployed over it and awaited, and all is taken down. It prints the time of each in nanoseconds.
#
# cold.sh SOCKET DOMAIN OLD NEW: two trees of a recipe
set -eu
export DOCKER_HOST="$1"
domain=$2 old=$3 new=$4
stack=$(printf %s "$domain" | tr . _)
label=label=com.docker.stack.namespace=$stack

# With the variables of the recipe's sample and the versions of its configs, as abra hands them to Docker.
deploy() { # TREE
	(
		cd "$1"
		set -a
		COMPOSE_FILE=compose.yml
		. ./.env.sample
		. ./abra.sh
		DOMAIN=$domain STACK_NAME=$stack
		set +a
		for name in $(sed -n 's/^SECRET_\(.*\)_VERSION=.*/\1/p' .env.sample | tr A-Z a-z); do
			name=${stack}_${name}_v1
			docker secret inspect "$name" >/dev/null 2>&1 ||
				printf 0123456789abcdef | docker secret create "$name" - >/dev/null
		done
		set --
		for file in $(printf %s "$COMPOSE_FILE" | tr : ' '); do
			set -- "$@" -c "$file"
		done
		docker stack deploy --resolve-image never "$@" "$stack" >/dev/null
	)
}

is_up() {
	services=$(docker service ls --filter "$label" --format '{{.ID}} {{.Replicas}}')
	[ -n "$services" ] || return 1
	! printf '%s\n' "$services" | grep -qv ' 1/1' || return 1
	# While it updates a service, Swarm goes on saying 1/1.
	updates=$(printf '%s\n' "$services" | cut -d ' ' -f 1 |
		xargs docker service inspect --format '{{with .UpdateStatus}}{{.State}}{{end}}')
	! printf '%s\n' "$updates" | grep -q updating
}

took() { # BEGAN
	printf '%s\n' $(($(date +%s%N) - $1))
}

for tree in "$old" "$new"; do
	began=$(date +%s%N)
	deploy "$tree"
	until is_up; do
		sleep 0.1
	done
	took "$began"
done

began=$(date +%s%N)
docker stack rm "$stack" >/dev/null
while [ -n "$(docker ps -aq --filter "$label")" ]; do
	sleep 0.1
done
docker volume ls -q --filter "$label" | xargs -r docker volume rm >/dev/null
docker secret ls -q --filter "name=${stack}_" | xargs -r docker secret rm >/dev/null
while [ -n "$(docker network ls -q --filter "$label")$(docker config ls -q --filter "$label")" ]; do
	sleep 0.1
done
took "$began"
