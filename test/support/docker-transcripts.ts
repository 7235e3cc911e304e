/**
 * What people type at a Docker engine, by subject. Each runs on Gantry's engine and on Debian's dockerd; what differs for good reason is said
 * here by leaving it out of the record (`quiet`), with the reason. Source of the subjects: the acceptance list of the Docker fact sheet.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Transcript } from './transcript.ts'

export type Subject = (t: Transcript) => Promise<void>

const file = (t: Transcript, path: string, text: string, mode = 0o644): void => {
  mkdirSync(join(t.dir, path, '..'), { recursive: true })
  writeFileSync(join(t.dir, path), text, { mode })
}

export const subjects: Record<string, Subject> = {
  async 'run: streams, exit codes, failures'(t) {
    await t.sh(`docker run --rm busybox sh -c 'echo out; echo err >&2; exit 7'`)
    await t.sh('docker ps -aq')
    await t.sh('docker run --rm busybox /nonexistent')
    await t.sh('docker run --rm busybox /etc')
    await t.sh('docker run --rm busybox nonexistent-command')
    await t.sh('docker run --rm --memory 1k busybox true')
    await t.sh('docker run --rm --cap-add NOSUCH busybox true')
    await t.sh('docker run --rm --network nosuch busybox true')
    await t.sh('docker run --rm -v /a:/b:zz busybox true')
    await t.sh('docker run --rm -v relative/x:/b busybox true')
    await t.sh('docker run --rm --restart always busybox true')
    await t.sh('docker run --name "-bad" busybox true')
    await t.sh('docker run --rm -u nosuchuser busybox true')
    await t.sh('docker run --rm -w relative busybox pwd')
    await t.sh('docker run --rm --cpus 1000 busybox true')
    await t.sh('docker run --rm --ulimit nofile=10:5 busybox true')
    await t.sh('docker run --name taken -d busybox sleep 1000')
    await t.sh('docker run --name taken busybox true')
    await t.sh('docker rm taken')
    await t.sh('docker rm -f taken')
    await t.sh('docker rm -f taken')
    await t.sh('docker start nosuch')
    await t.sh('docker inspect nosuch')
  },

  async 'run: environment, user, working directory, entrypoint'(t) {
    await t.sh(`docker run --rm -e A=1 -e B -w /tmp -h box busybox sh -c 'pwd; hostname; env | grep -v HOSTNAME | sort'`)
    await t.sh('docker run --rm -u user busybox id')
    await t.sh('docker run --rm -u 5:7 --group-add extra --group-add 99 busybox id')
    await t.sh('docker run --rm --entrypoint echo busybox a b')
    await t.sh(`docker run --rm --entrypoint '' busybox echo c`)
    await t.sh(`docker run --rm --domainname example.org -h box busybox cat /proc/sys/kernel/domainname`)
    await t.sh(`docker run --rm busybox sh -c 'grep Cap /proc/self/status; grep -i -e Seccomp: -e NoNewPrivs /proc/self/status'`)
    await t.sh(`docker run --rm --cap-drop ALL --cap-add NET_ADMIN busybox grep Cap /proc/self/status`)
    await t.sh(`docker run --rm --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status`)
    await t.sh(`docker run --rm --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status`)
    await t.sh('docker run --rm --ulimit nofile=100:200 busybox sh -c "ulimit -n; ulimit -Hn"')
    await t.sh('docker run --rm --sysctl net.ipv4.ip_forward=0 busybox cat /proc/sys/net/ipv4/ip_forward')
    await t.sh('docker run --rm --read-only busybox touch /x')
    await t.sh('docker run --rm --read-only --tmpfs /t busybox sh -c "touch /t/x && ls /t"')
    await t.sh('docker run --rm --tmpfs /t:size=1m,mode=700 busybox sh -c "grep \' /t \' /proc/mounts | cut -d\' \' -f1-3; stat -c %a /t"')
    await t.sh('docker run --rm --shm-size 8m busybox sh -c "df -k /dev/shm | tail -1 | awk \'{print \\$2}\'"')
    await t.sh('docker run --rm --device /dev/null:/dev/mynull busybox ls /dev/mynull')
    await t.sh('docker run --rm busybox ls /dev')
    await t.sh('docker run --rm --init busybox sh -c "cat /proc/1/comm"')
    await t.sh('docker run --rm --pid host busybox sh -c "test -d /proc/2 && echo sees the host"')
    await t.sh('docker run --rm --uts host --ipc host busybox true')
    await t.sh(`docker run --rm busybox sh -c "mount | awk '{print \\$3, \\$5}' | grep -v -e cgroup -e /etc -e /proc/interrupts | sort"`)
    await t.sh('docker run --rm --oom-score-adj 500 busybox cat /proc/self/oom_score_adj')
    await t.sh('docker run --rm --pids-limit 7 --memory 32m busybox sh -c "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes"')
    await t.sh('docker run --rm --add-host a.example:1.2.3.4 --dns 9.9.9.9 --dns-search example.org --dns-option ndots:3 busybox sh -c "grep a.example /etc/hosts; sort /etc/resolv.conf"')
  },

  async 'stdin, attach and terminals'(t) {
    await t.sh('echo hi | docker run -i --rm busybox cat')
    await t.sh('docker run -i --rm busybox cat < /dev/null')
    await t.sh('head -c 1000000 /dev/zero | tr "\\0" x | docker run -i --rm busybox wc -c')
    await t.terminal('docker run -it --rm busybox sh', [[/# /, 'stty size; tty\n'], [/\/dev\/pts\/0[\s\S]*# /, 'exit 3\n']])
    await t.quiet('docker run -d -it --name term busybox sh')
    await t.terminal('docker attach term', [[/^/, '\n'], [/# /, 'echo attached-$((40+2))\n'], [/attached-42[\s\S]*# /, '\x10\x11']])
    await t.sh('docker inspect -f "{{.State.Running}}" term')
    await t.terminal('docker exec -it term sh', [[/# /, 'stty size\n'], [/24 80[\s\S]*# /, 'exit 4\n']])
    await t.sh('docker rm -f term')
    await t.sh(`docker create --name cc -i busybox sh -c 'read x; echo got $x; exit 5'`).then(s => { s.stdout = 'ID64\n' })
    await t.sh('echo word | docker start -ai cc')
    await t.sh('docker logs cc')
    await t.sh('docker rm cc')
    await t.sh('docker run --rm --sig-proxy=false busybox sh -c "kill -TERM \\$\\$; sleep 0.2; echo alive"')
    await t.sh('(timeout -s TERM 3 docker run --rm busybox sh -c "trap \'echo caught; exit 9\' TERM; sleep 100 & wait"); echo $?')
  },

  async 'exec'(t) {
    await t.quiet('docker run -d --name ex busybox sh -c "echo up; sleep 1000"')
    await t.sh('docker exec -e X=1 -w /tmp -u user ex sh -c "echo \\$X; pwd; id -un; env | grep X="')
    await t.sh('docker exec ex sh -c "exit 42"')
    // Newer engines say 127.
    await t.sh('docker exec ex nonexistent || echo failed')
    await t.sh('docker exec ex /etc')
    await t.sh('docker exec -d ex touch /tmp/made; sleep 1; docker exec ex ls /tmp')
    await t.sh('echo input | docker exec -i ex cat')
    await t.sh('docker exec -u nosuch ex true')
    await t.sh('docker pause ex')
    await t.sh('docker exec ex true')
    await t.sh('docker pause ex')
    await t.sh('docker ps --format "{{.Names}} {{.Status}}"')
    await t.sh('docker unpause ex')
    await t.sh('docker unpause ex')
    await t.sh('docker stop -t 0 ex')
    await t.sh('docker exec ex true')
    await t.sh('docker rm ex')
    await t.sh('docker exec ex true')
  },

  async 'logs'(t) {
    await t.quiet('docker run --name lo busybox sh -c "for i in 1 2 3 4 5; do echo line \\$i; done; sleep 0.2; echo err >&2"')
    await t.sh('docker logs --tail 3 lo 2>/dev/null')
    await t.sh('docker logs lo 2>&1 >/dev/null')
    await t.sh('docker logs -t --tail 2 lo 2>/dev/null | wc -w')
    await t.sh('docker logs --since 1h --until 2030-01-01T00:00:00Z lo 2>/dev/null')
    await t.sh('docker logs --since 2030-01-01T00:00:00Z lo')
    await t.sh('docker logs --tail 0 lo')
    await t.quiet('docker run -d --name fo busybox sh -c "i=0; while [ \\$i -lt 3 ]; do echo tick \\$i; i=\\$((i+1)); sleep 0.3; done"')
    await t.sh('docker logs -f fo')
    await t.sh(`docker run --name big busybox sh -c 'head -c 1048576 /dev/zero | tr "\\0" y; echo' | wc -c`)
    await t.sh('docker logs big | wc -c')
    await t.sh('docker run --name partial busybox printf "no newline"')
    await t.sh('docker logs partial')
    await t.sh('docker run -t --name tty busybox echo in a terminal')
    await t.sh('docker logs tty')
    await t.sh('docker run -d --name none --log-driver none busybox echo gone').then(s => { s.stdout = '' })
    await t.sh('docker logs none')
    await t.sh('docker run --log-driver nosuch busybox true')
    await t.sh('docker logs nosuch')
    await t.quiet('docker rm -f lo fo big partial tty none')
  },

  async 'copying files'(t) {
    file(t, 'in/a.txt', 'content of a\n')
    file(t, 'in/sub/b.txt', 'content of b\n', 0o600)
    await t.quiet('ln -s a.txt in/link')
    await t.quiet('docker run -d --name cp -v cpvol:/vol busybox sleep 1000')
    await t.sh('docker cp in/a.txt cp:/tmp/')
    await t.sh('docker cp in cp:/tmp/whole')
    await t.sh('docker cp in/. cp:/root')
    await t.sh('docker exec cp sh -c "cd / && find /tmp /root | sort; cat /tmp/a.txt; stat -c %a:%u /root/sub/b.txt; readlink /root/link"')
    await t.sh('docker cp cp:/root out && find out | sort && cat out/sub/b.txt')
    await t.sh('docker cp -L in/link cp:/tmp/followed && docker exec cp cat /tmp/followed')
    await t.sh('docker cp cp:/tmp/a.txt - | tar tf -')
    await t.sh('tar cf - -C in a.txt | docker cp - cp:/vol && docker exec cp ls /vol')
    await t.sh('docker cp cp:/nosuch .')
    await t.sh('docker cp in/a.txt cp:/nosuch/dir/')
    await t.sh('docker cp in cp:/tmp/a.txt')
    await t.quiet('docker stop -t 0 cp')
    await t.sh('docker cp cp:/tmp/a.txt stopped.txt && cat stopped.txt')
    await t.sh('docker cp in/a.txt cp:/var/late && docker cp cp:/vol vol && ls vol')
    // Gantry leaves out the places where something is mounted.
    await t.unordered('docker diff cp | grep -v "/vol$"')
    await t.sh('docker export cp | tar tf - | grep -e var/late -e bin/busybox$ -e root/sub | sort')
    await t.sh('docker rm -v cp')
    await t.quiet('docker create --name ro --read-only busybox')
    await t.sh('docker cp in/a.txt ro:/tmp/')
    await t.quiet('docker rm ro; docker volume rm cpvol')
  },

  async 'stop, kill, restart, wait'(t) {
    await t.quiet(`docker run -d --name ss --stop-signal USR1 busybox sh -c 'trap "echo usr1; exit 3" USR1; while :; do sleep 0.1; done'`)
    await t.sh('docker stop ss')
    await t.sh('docker logs ss')
    await t.sh('docker inspect -f "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}" sss')
    await t.sh('docker stop ss')
    await t.sh('docker kill ss')
    await t.quiet('docker run -d --name kk busybox sleep 1000')
    await t.sh('docker kill -s NOSUCH kk')
    await t.sh('docker kill -s KILL kk; docker wait kk')
    await t.sh('docker inspect -f "{{.State.ExitCode}}" kkk')
    await t.sh('docker start kk; docker restart -t 0 kk; docker inspect -f "{{.State.Running}} {{.RestartCount}}" kkk')
    await t.sh('docker rename kk renamed && docker ps --format "{{.Names}} {{.Image}} {{.Command}}"')
    await t.sh('docker rename renamed ss')
    await t.quiet('docker run -d --name rr --restart on-failure:2 busybox false; sleep 2')
    await t.sh('docker wait rr; docker inspect -f "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}" rrr')
    await t.sh('docker update --restart no --memory 64m --memory-swap 128m renamed && docker inspect -f "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}" renamed')
    await t.sh('docker top renamed -o pid,comm | tail -n +2 | wc -l')
    await t.sh('docker top renamed -o nosuch')
    await t.sh('docker stop -t 0 renamed ss; docker rm renamed ss rr')
    await t.sh('docker wait nosuch')
    await t.sh('docker run --name oom --memory 16m busybox sh -c "x=a; while :; do x=\\$x\\$x; done"').then(s => { s.stderr = '' })
    await t.sh('docker inspect -f "{{.State.OOMKilled}} {{.State.ExitCode}}" oom')
    await t.sh('docker container prune -f').then(s => { s.stdout = s.stdout.replace(/Total reclaimed space: .*/, '') })
  },

  async 'health'(t) {
    await t.quiet('docker run -d --name he --health-cmd "test -f /tmp/ok" --health-interval 300ms --health-retries 2 --health-timeout 5s busybox sh -c "touch /tmp/ok; sleep 1000"')
    await t.sh('sleep 1.5; docker inspect -f "{{.State.Health.Status}} {{.State.Health.FailingStreak}}" he; docker ps --format "{{.Status}}"')
    await t.sh('docker exec he rm /tmp/ok; sleep 1.5; docker inspect -f "{{.State.Health.Status}}" he; docker ps --format "{{.Status}}" --filter health=unhealthy')
    await t.sh('docker inspect -f "{{(index .State.Health.Log 0).ExitCode}} {{json .Config.Healthcheck}}" hee')
    await t.sh('docker rm -f he')
  },

  async 'volumes'(t) {
    await t.sh('docker volume create v1; docker volume create --label a=b v2; docker volume create v1')
    await t.sh('docker volume inspect -f "{{.Name}} {{.Driver}} {{.Scope}} {{json .Labels}} {{json .Options}}" v1 v2 | sed "s/{}/null/g"')
    await t.sh('docker volume ls -q --filter label=a')
    await t.sh('docker run --rm -v v1:/data busybox sh -c "echo kept > /data/f" && docker run --rm -v v1:/data:ro busybox sh -c "cat /data/f; touch /data/g"')
    await t.sh('docker run --rm -v v2:/etc busybox ls /etc | grep -v mtab')
    await t.sh('docker run --rm -v nocopy:/etc:nocopy busybox ls /etc')
    await t.quiet('docker run -d --name user -v v1:/data -v /anon busybox sleep 1000')
    await t.sh('docker volume rm v1')
    await t.sh('docker run --rm --volumes-from user busybox cat /data/f')
    await t.sh('docker inspect -f "{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}} {{.Driver}};{{end}}" user | tr ";" "\\n" | sort')
    await t.sh('docker volume ls -q | grep -c .')
    await t.sh('docker rm -fv user; docker volume ls -q | sort')
    await t.sh('docker volume rm nosuch')
    await t.sh('docker volume create bad/name')
    await t.sh('docker volume create -d nosuchdriver x')
    await t.sh('docker volume create -o nosuch=1 x')
    await t.sh('docker run --rm --mount type=bind,source=/nosuchdir,target=/m busybox true')
    await t.sh('docker run --rm --mount type=tmpfs,target=/m,tmpfs-size=1m busybox sh -c "df -k /m | tail -1 | awk \'{print \\$2}\'"')
    await t.sh('docker run --rm -v v1:/a -v v2:/a busybox true')
    await t.sh('docker volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=2m tm && docker run --rm -v tm:/m busybox sh -c "df -k /m | tail -1 | awk \'{print \\$2}\'"')
    await t.sh('docker volume rm v1 v2 nocopy tm')
  },

  async 'networks'(t) {
    await t.sh('docker network ls --format "{{.Name}} {{.Driver}} {{.Scope}}"')
    await t.quiet('docker network create n1; docker network create --subnet 10.77.0.0/16 --gateway 10.77.0.1 n2; docker network create --internal inner')
    await t.sh('docker network create n1').then(s => { s.stdout = '' })
    await t.sh('docker network inspect -f "{{.Name}} {{.Driver}} {{.Internal}} {{.EnableIPv6}} {{(index .IPAM.Config 0).Gateway}}" n2 inner | sed "s/172[.0-9]*//"')
    await t.quiet('docker run -d --name aa --network n1 --network-alias first busybox sleep 1000; docker run -d --name bb --network n2 --ip 10.77.0.9 busybox sleep 1000')
    await t.sh('docker exec bb ip -4 addr show eth0 | grep -o "inet [0-9./]*"')
    await t.sh('docker exec aa sh -c "timeout 2 ping -c1 bb >/dev/null 2>&1 && echo found || echo not found"')
    await t.sh('docker network connect --ip 10.77.0.20 --alias second n2 aa && docker exec aa ping -c1 -W2 bb | grep -c "1 packets received"')
    await t.sh('docker exec bb nslookup second 127.0.0.11 | grep -c 10.77.0.20; docker exec bb nslookup aa.n2 127.0.0.11 | grep -c 10.77.0.20; docker exec bb sh -c "timeout 2 ping -c1 first >/dev/null 2>&1 && echo found || echo not found"')
    await t.sh('docker exec bb cat /etc/resolv.conf | grep nameserver')
    await t.sh('docker network rm n2')
    await t.sh('docker network disconnect n2 aa; docker exec aa ping -c1 -W1 10.77.0.9').then(s => { s.stdout = s.stdout.replace(/.*bytes from.*\n/, '') })
    await t.sh('docker network connect host aa')
    await t.sh('docker network connect nosuch aa; docker network connect n1 nosuch; docker network rm nosuch; docker network rm bridge')
    await t.sh('docker network create --subnet 10.77.0.0/24 overlap')
    await t.sh('docker network create -d nosuch x')
    await t.sh('docker run --rm --network none busybox ip -o link show | cut -d: -f2')
    await t.sh('docker run --rm --network container:bb busybox ip -4 -o addr show eth0 | grep -o "inet [0-9./]*"')
    await t.sh('docker run --rm --network container:bb -p 80:80 busybox true')
    await t.sh('docker create --name nn --network container:nosuch busybox true >/dev/null; docker inspect -f "{{.HostConfig.NetworkMode}}" nn; docker rm nn')
    await t.sh('docker run --rm --ipc container:bb busybox true 2>&1 | grep -o "non-shareable IPC.*)"')
    await t.sh('docker run --rm --network n2 --ip 1.2.3.4 busybox true 2>&1 | head -1')
    await t.sh('docker run --rm --ip 172.17.0.99 busybox true')
    await t.sh('docker run --rm --link aa:ali busybox true')
    await t.sh('docker rm -f aa bb; docker network prune -f | sort')
  },

  async 'published ports and links'(t) {
    const serve = `sh -c 'echo hello > /tmp/index.html; httpd -f -p 80 -h /tmp'`
    await t.quiet(`docker run -d --name ww -p 18080:80 busybox ${serve}; sleep 0.5`)
    await t.sh('docker port ww')
    await t.sh('docker port ww 80; docker port ww 81')
    await t.sh('docker ps --format "{{.Ports}}" --filter name=ww')
    t.steps.push({ ...(await t.daemon.inside('curl', '-s', 'http://127.0.0.1:18080/index.html')), command: 'curl' })
    await t.sh('docker run --name second -d -p 18080:80 busybox sleep 1000').then(s => { s.stdout = '' })
    await t.sh('docker inspect -f "{{.State.Status}}" second; docker rm second')
    await t.sh('docker run --rm -p 99999:80 busybox true')
    await t.sh('docker run -d --name range -p 18100-18102:80-82/udp busybox sleep 1000 >/dev/null; docker port range | sort; docker rm -f range')
    await t.sh('docker run -d --name eph --expose 90 -P busybox sleep 1000 >/dev/null; docker port eph | sed "s/:[0-9]*$/:PORT/;s/:::/[::]:/"; docker rm -f eph')
    await t.quiet('docker run -d --name db -e SECRET=x --expose 5432 busybox sleep 1000')
    await t.sh('docker run --rm --link db:database busybox sh -c "env | grep ^DATABASE | grep -v _NAME | sort; grep -c database /etc/hosts; ping -c1 -W2 database | grep -c received"')
    await t.sh('docker rm -f ww db')
  },

  async 'images'(t) {
    await t.sh('docker images --format "{{.Repository}}:{{.Tag}} {{.ID}}"')
    await t.sh('docker inspect -f "{{.Id}} {{json .Config.Cmd}} {{json .Config.Env}} {{.Os}}/{{.Architecture}} {{json .RootFS.Layers}}" busybox')
    await t.sh('docker tag busybox example/bb:1; docker tag busybox Bad_NAME; docker tag nosuch x')
    await t.sh('docker images -q | wc -l; docker images --format "{{.Repository}}:{{.Tag}}" --filter reference="example/*"')
    await t.sh('docker rmi example/bb:1; docker rmi nosuch')
    await t.quiet('docker run -d --name im busybox sleep 1000')
    await t.sh('docker rmi busybox')
    await t.sh('docker commit -m message -a author -c "ENV X=1" -c "CMD [\\"echo\\", \\"committed\\"]" im committed:1 >/dev/null; docker run --rm committed:1; docker run --rm committed:1 env | grep X=')
    await t.sh('docker history --format "{{.CreatedBy}} {{.Comment}} {{.Size}}" committed:1')
    await t.sh('docker save busybox committed:1 | tar tf - | grep -c manifest.json')
    await t.sh('docker save committed:1 -o saved.tar; docker rmim committed:1 | grep Untagged; docker load -i saved.tar; docker run --rm committed:1')
    await t.sh('docker export im | docker import -c "CMD [\\"echo\\", \\"imported\\"]" - imported:1 >/dev/null; docker run --rm imported:1; docker rmi imported:1 | grep Untagged')
    await t.sh('docker load < /dev/null 2>/dev/null; echo garbage | docker load 2>/dev/null || echo refused')
    await t.sh('docker rm -f im; docker rmim committed:1 | grep Untagged')
    await t.sh('docker image prune -f').then(s => { s.stdout = s.stdout.replace(/[\s\S]*Total/, 'Total').replace(/: .*/, '') })
    await t.sh('docker pull 127.0.0.1:9/none; docker push 127.0.0.1:9/none').then(s => { s.stderr = s.stderr.replace(/.*dial tcp.*/g, 'refused') })
    await t.sh('docker run --rm -q 127.0.0.1:9/none true 2>&1 | tail -1 | sed "s/.*connection refused.*/refused/"')
  },

  async 'build'(t) {
    file(t, 'b/.dockerignore', 'ignored\n*.tmp\n')
    file(t, 'b/ignored', 'x')
    file(t, 'b/x.tmp', 'x')
    file(t, 'b/app/main.sh', 'echo main $VERSION\n', 0o755)
    file(t, 'b/Dockerfile', [
      'ARG BASE=busybox', 'FROM ${BASE} AS builder', 'ARG VERSION=1', 'ENV VERSION=$VERSION', 'WORKDIR /src', 'COPY . .', 'RUN ls -a && echo built > /out && id -u',
      'FROM busybox', 'LABEL one=1 two="2 3"', 'COPY --from=builder /out /src/app /opt/', 'COPY --chown=user:user app/main.sh /home/', 'ENV VERSION=v2',
      'EXPOSE 80/tcp 53/udp', 'VOLUME /data', 'USER user', 'HEALTHCHECK --interval=5s CMD true', 'STOPSIGNAL USR1', 'ONBUILD RUN echo triggered', 'ENTRYPOINT ["sh"]', 'CMD ["/home/main.sh"]', '',
    ].join('\n'))
    // "Sending build context" is the client's, and comes in pieces.
    const build = (args: string): Promise<unknown> => t.sh(`DOCKER_BUILDKIT=0 docker build ${args} 2>&1 | grep -v -e "Sending build" -e DEPRECATED -e "BuildKit" -e "environment-variable" -e "^ *\\(Install\\|https\\|$\\)"`)
    await build('-t built b')
    await build('-t built b')
    await t.sh('docker run --rm built; docker run --rm built -c "ls -l /home/main.sh | cut -c1-10; stat -c %U /home/main.sh; ls /opt"')
    await t.sh('docker inspect -f "{{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{.Config.User}} {{json .Config.Healthcheck}} {{.Config.StopSignal}} {{json .Config.OnBuild}} {{json .Config.Entrypoint}} {{json .Config.Labels}}" built')
    await t.sh('docker history --format "{{.CreatedBy}}" --no-trunc built')
    await build('--build-arg VERSION=7 --build-arg UNUSED=1 --target builder -t stage b')
    await t.sh('docker run --rm stage sh app/main.sh')
    await t.sh('docker build -q b; docker build --iidfile iid -q b >/dev/null; wc -c < iid')
    // The command sends such an archive without its last padding.
    await t.sh('printf "FROM busybox\\nCOPY . /b\\nRUN exit 8\\n" | docker build -q -f - b; echo code $?')
    await t.sh('printf "FROM busybox\\nRUN exit 9\\n" | docker build -q -; echo code $?')
    await t.sh('printf "FROM busybox\\nNOSUCH x\\n" | docker build -q - 2>&1')
    await t.sh('printf "FROM busybox\\nCOPY nosuch /\\n" > b/D2; docker build -q -f b/D2 b 2>&1 | sed "s/ in .*//"')
    await t.sh('printf "FROM built\\nUSER root\\n" | DOCKER_BUILDKIT=0 docker build - 2>&1 | grep -e Step -e trigger -e "Successfully built"')
    await t.sh('docker build -q -f nosuch b 2>&1 | grep -c -i -e "no such file" -e "not found" -e "cannot locate"')
    await t.sh('docker image rm -f built stage >/dev/null')
  },

  async 'events'(t) {
    await t.quiet('docker run --rm --name before busybox true')
    const from = Math.floor(Date.now() / 1000)
    await t.quiet('sleep 1; docker run --rm --name evented busybox true; docker create --name made busybox; docker rm made; docker volume create ev; docker volume rm ev; docker network create evn; docker network rm evn; sleep 1')
    await t.sh(`docker events --since ${from + 1} --until $(date +%s) --filter container=evented --format "{{.Type}} {{.Action}}"`)
    await t.sh(`docker events --since ${from + 1} --until $(date +%s) --filter type=container --filter event=die --format "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}"`)
    await t.sh(`docker events --since ${from + 1} --until $(date +%s) --filter type=volume --filter type=network --format "{{.Type}} {{.Action}}" | sort | uniq`)
  },

  async 'system'(t) {
    await t.sh('docker info -f "{{.Swarm.LocalNodeState}} {{.OSType}} {{.Containers}} {{.NCPU}}"')
    await t.sh('docker node ls; docker service ls; docker stack ls 2>&1 | tail -1')
    await t.sh('docker plugin ls')
    await t.sh('docker system df --format "{{.Type}} {{.TotalCount}} {{.Active}}" | grep -v Build')
    await t.quiet('docker run -d --name st busybox sh -c "while :; do :; done"; sleep 2')
    await t.sh('docker stats --no-stream --format "{{.Name}} {{.PIDs}}" st')
    await t.sh('docker stats --no-stream --format "{{.CPUPerc}}" st | awk \'{ print ($1+0 > 10) ? "busy" : "idle" }\'')
    await t.sh('docker rm -f st')
    await t.sh('docker ps --filter nosuch=1; docker ps --filter status=nosuch; docker images --filter nosuch=1; docker volume ls --filter nosuch=1; docker network ls --filter nosuch=1')
    await t.sh('docker run -d --name p1 -l x=1 busybox true >/dev/null; docker wait p1; docker ps -a --filter label=x=1 --filter exited=0 --format "{{.Names}} {{.Command}} {{.Labels}}"; docker ps -a --filter ancestor=busybox --format "{{.Names}}"; docker rm p1')
  },
}
