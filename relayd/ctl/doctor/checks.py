"""All checks of `doctor`, in the order in which they run and are shown."""

from relayd.ctl.doctor import certificates, database, machine, nginx, public, redis, software
from relayd.ctl.doctor.findings import Check

CHECKS = (
    Check("configuration", "warnings, open secrets", machine.look_at_configuration),
    Check("differences", "what runs against the files", machine.look_at_differences),
    Check("relayd", "/readyz on every address of [server] listen", machine.look_at_daemon),
    Check("control", "the control socket", machine.look_at_control),
    Check("files", "open files of the running processes", machine.look_at_files),
    Check("kernel", "the listen queues", machine.look_at_kernel),
    Check("hiredis", "the parser of Redis' answers", software.look_at_hiredis),
    Check("native-parts", "compiled parts of the libraries", software.look_at_native_parts),
    Check("database", "reachable, version, disk", database.look_at_database),
    Check("database-use", "what relayd does with it", database.look_at_use),
    Check("database-schema", "migrations", database.look_at_schema),
    Check("database-connections", "pools against max_connections", database.look_at_connections),
    Check("database-timeouts", "time limits, standby", database.look_at_time_limits),
    Check("redis", "reachable, version, master", redis.look_at_servers),
    Check("redis-memory", "maxmemory-policy", redis.look_at_memory),
    Check("redis-clients", "maxclients", redis.look_at_clients),
    Check("redis-buffers", "client-output-buffer-limit pubsub", redis.look_at_buffers),
    Check("redis-persistence", "appendonly, save", redis.look_at_persistence),
    Check("processes", "the register of the cluster", redis.look_at_processes),
    Check("clocks", "this machine, Redis, the processes", redis.look_at_clocks),
    Check("nginx", "the path of a handshake", nginx.look_for_way),
    Check("nginx-upgrade", "HTTP/1.1, Upgrade, Connection", nginx.look_at_upgrade),
    Check("nginx-timeouts", "proxy_read_timeout against our pings", nginx.look_at_timeouts),
    Check("nginx-addresses", "forwarded addresses", nginx.look_at_addresses),
    Check("nginx-buffering", "caches and buffers", nginx.look_at_buffering),
    Check("nginx-balance", "several relayds", nginx.look_at_balance),
    Check("nginx-capacity", "worker_connections, files", nginx.look_at_capacity),
    Check("nginx-metrics", "/metrics in public", nginx.look_at_metrics),
    Check("certificate", "of the public URL", certificates.look_at_public),
    Check("certificate-files", "what relayd itself sends over TLS", certificates.look_at_files),
    Check("websocket", "a pose through the public URL", public.look),
)
