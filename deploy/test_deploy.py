"""What lies in deploy/ has the form that its programs ask for, and names nothing that Homeroom does not have.

Owns: running the programs that can judge it (haproxy, promtool, systemd-analyze), and reading the rest. Refuses to know: whether
it serves anybody (server/tests/it/nginx.rs and the chaos run send clients through it), Docker and Kubernetes (see README.md).
"""

import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time
import unittest

import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
BINARY = pathlib.Path(os.environ.get("HOMEROOM_BIN", ROOT / "target/debug/homeroom"))
# Everything here but what says how it is tested.
FILES = [file for file in sorted(HERE.rglob("*")) if file.is_file() and file.suffix not in (".py", ".md", ".pyc")]


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    return done.returncode, done.stdout + done.stderr


def free_port():
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def ask(port, path):
    """What is answered does not matter; that it is, does."""
    deadline = time.monotonic() + 20
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        finally:
            connection.close()


def documents(name):
    """The documents of a YAML file. A key that stands twice in a mapping is a mistake that the usual loader hides."""

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [key.value for key, _ in node.value]
            if len(keys) != len(set(keys)):
                raise yaml.YAMLError(f"a key stands twice: {node.start_mark}")
            return super().construct_mapping(node, deep)

    return list(yaml.load_all((HERE / name).read_text(), Loader=Strict))


def known_metrics():
    """The names in docs/operations.md's table. That it and the server agree is tested in server/tests/it/documents.rs."""
    page = (ROOT / "docs/operations.md").read_text()
    return set(re.findall(r"`(homeroom_[a-z_]+)`", page.split("\n## Metrics")[1].split("\n## ")[0]))


class Programs(unittest.TestCase):
    def test_haproxy_takes_its_file(self):
        status, said = run("/usr/sbin/haproxy", "-c", "-f", HERE / "haproxy.cfg")
        self.assertEqual(status, 0, said)
        self.assertNotIn("WARNING", said)

    def test_haproxy_logs_no_invitation(self):
        port, nowhere = free_port(), free_port()
        text = (HERE / "haproxy.cfg").read_text().replace("bind :80", f"bind 127.0.0.1:{port}")
        text = re.sub(r"10\.0\.0\.1\d:8080", f"127.0.0.1:{nowhere}", text)
        # As somebody has it who wants to see requests.
        text = text.replace("global\n", "global\n    log stdout format raw local0\n")
        text = text.replace("defaults\n", "defaults\n    log global\n    option httplog\n")
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "haproxy.cfg"
            file.write_text(text)
            with subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", file], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  text=True) as haproxy:
                try:
                    for path in ("/i/SECRET", "/i/SECRET?more", "/logged"):
                        ask(port, path)
                    said = ""
                    while "/logged" not in said:
                        line = haproxy.stdout.readline()
                        self.assertNotEqual(line, "", said)
                        said += line
                finally:
                    haproxy.kill()
        self.assertNotIn("SECRET", said)

    def test_systemd_takes_the_unit_and_finds_little_exposed(self):
        unit = (HERE / "homeroom.service").read_text()
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "homeroom.service"
            # A binary that is there; /bin/true is on every machine.
            file.write_text(unit.replace("ExecStart=/usr/local/bin/homeroom", "ExecStart=/bin/true"))
            status, said = run("systemd-analyze", "verify", file)
            self.assertEqual((status, said.strip()), (0, ""))
            status, said = run("systemd-analyze", "security", "--offline=yes", "--threshold=15", file)
            self.assertEqual(status, 0, said)

    def test_each_alert_is_raised_where_it_should_be_and_none_where_all_is_well(self):
        for command in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
            status, said = run("promtool", *command, cwd=HERE / "prometheus")
            self.assertEqual(status, 0, said)
        tested = (HERE / "prometheus/alerts_test.yml").read_text()
        for name in alerts():
            self.assertEqual(tested.count(f"alertname: {name}\n"), 1, f"{name} is raised in a test")
            self.assertEqual(tested.count(f"alertname: {name},"), 1, f"{name} is silent in a test")

    def test_the_boards_questions_are_promql(self):
        rules = [{"record": f"panel:{number}", "expr": plain(expr)} for number, expr in enumerate(board_expressions())]
        self.assertGreater(len(rules), 15)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "board.yml"
            file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
            status, said = run("promtool", "check", "rules", file)
            self.assertEqual(status, 0, said)


class Names(unittest.TestCase):
    def test_every_variable_is_one_that_the_binary_knows(self):
        status, said = run(BINARY, "serve", "--help")
        self.assertEqual(status, 0, said)
        known = {"HOMEROOM_" + flag.upper().replace("-", "_") for flag in re.findall(r"--([a-z][a-z-]*)", said)}
        self.assertIn("HOMEROOM_DATABASE_URL", known)
        for file in FILES:
            named = set(re.findall(r"HOMEROOM_[A-Z_]+", file.read_text()))
            self.assertLessEqual(named, known, file.name)

    def test_every_metric_is_in_the_table(self):
        known = known_metrics()
        self.assertGreater(len(known), 20)
        histograms = {name + end for name in known for end in ("_bucket", "_sum", "_count")}
        for file in ("prometheus/alerts.yml", "prometheus/alerts_test.yml", "grafana/homeroom.json"):
            named = set(re.findall(r"\bhomeroom_[a-z_]+", (HERE / file).read_text()))
            self.assertGreater(len(named), 10, file)
            self.assertLessEqual(named, known | histograms, file)

    def test_every_alert_is_explained(self):
        page = (ROOT / "docs/operations.md").read_text()
        for name in alerts():
            self.assertIn(f"| `{name}`", page)

    def test_every_file_is_in_the_readme(self):
        readme = (HERE / "README.md").read_text()
        for file in FILES:
            self.assertIn(f"`{file.relative_to(HERE)}`", readme)


def alerts():
    (rules,) = documents("prometheus/alerts.yml")
    return [rule["alert"] for group in rules["groups"] for rule in group["rules"]]


def board_expressions():
    board = json.loads((HERE / "grafana/homeroom.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def plain(expr):
    """What Grafana fills in, filled in."""
    return expr.replace("$__rate_interval", "1m").replace("$node", ".*")


def seconds(text):
    return int(re.fullmatch(r"(\d+)s?", str(text))[1])


class Form(unittest.TestCase):
    def test_the_unit_gives_a_drain_its_time(self):
        unit = (HERE / "homeroom.service").read_text()
        said = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
        drain = int(re.search(r"HOMEROOM_DRAIN_SECONDS=(\d+)", unit)[1])
        self.assertGreater(seconds(said["TimeoutStopSec"]), drain + 10)
        self.assertEqual((said["Restart"], said["KillSignal"], said["StartLimitIntervalSec"]), ("always", "SIGTERM", "0"))
        self.assertGreaterEqual(int(said["LimitNOFILE"]), 100_000)

    def test_the_images_stages_copy_what_is_there(self):
        text = re.sub(r"#.*", "", (HERE / "Dockerfile").read_text()).replace("\\\n", " ")
        steps = [line.split(None, 1) for line in text.splitlines() if line.strip()]
        stages = {words.split(" AS ")[1] for step, words in steps if step == "FROM" and " AS " in words}
        for step, words in steps:
            if step != "COPY":
                continue
            *sources, _ = [word for word in words.split() if not word.startswith("--")]
            stage = re.search(r"--from=(\S+)", words)
            if stage:
                self.assertIn(stage[1], stages)
            else:
                for source in sources:
                    self.assertTrue((ROOT / source).exists(), source)
        last = [step for step, words in steps][-12:]
        for step in ("USER", "ENTRYPOINT", "STOPSIGNAL", "HEALTHCHECK"):
            self.assertIn(step, last)

    def test_compose_puts_three_nodes_where_haproxy_looks_for_them(self):
        (compose,) = documents("compose.yaml")
        services = compose["services"]
        nodes = {name: service for name, service in services.items() if name.startswith("node")}
        addresses = {service["networks"]["homeroom"]["ipv4_address"] for service in nodes.values()}
        servers = re.findall(r"^\s*server \S+ ([\d.]+):8080$", (HERE / "haproxy.cfg").read_text(), re.M)
        self.assertEqual((len(nodes), addresses), (3, set(servers)))
        for service in nodes.values():
            self.assertEqual(service["environment"]["HOMEROOM_TRUSTED_PROXIES"],
                             services["haproxy"]["networks"]["homeroom"]["ipv4_address"])
            self.assertGreater(seconds(service["stop_grace_period"]), image_drain() + 10)
            self.assertLessEqual(set(service["depends_on"]), set(services))
        named = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
        self.assertEqual({name for name in named if not name.startswith("./")}, set(compose["volumes"]))

    def test_kubernetes_parts_fit_together(self):
        documented = documents("kubernetes/homeroom.yaml")
        # Two are Ingresses; the one of all paths comes first.
        parts = {part["kind"]: part for part in reversed(documented)}
        self.assertEqual(len(documented), 5)
        self.assertEqual(set(parts), {"Deployment", "Service", "PodDisruptionBudget", "Ingress"})
        deployment = parts["Deployment"]["spec"]
        pod = deployment["template"]["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        for selector in (deployment["selector"]["matchLabels"], parts["Service"]["spec"]["selector"],
                         parts["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]):
            self.assertEqual(selector, labels)
        (container,) = pod["containers"]
        ports = {port["name"] for port in container["ports"]}
        variables = {variable["name"]: variable for variable in container["env"]}
        paths = {container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
        self.assertEqual(paths, {"/health/live", "/health/ready"})
        self.assertIn(container["readinessProbe"]["httpGet"]["port"], ports)
        self.assertIn(parts["Service"]["spec"]["ports"][0]["targetPort"], ports)
        waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        drain = int(variables["HOMEROOM_DRAIN_SECONDS"]["value"])
        self.assertGreater(pod["terminationGracePeriodSeconds"], waits + drain + 10)
        for name in ("HOMEROOM_DATABASE_URL", "HOMEROOM_REDIS_URLS"):
            self.assertEqual(variables[name]["valueFrom"]["secretKeyRef"]["name"], "homeroom")
        volumes = {volume["name"] for volume in pod["volumes"]}
        self.assertEqual({mount["name"] for mount in container["volumeMounts"]}, volumes)
        ingress = parts["Ingress"]
        for name in ("proxy-read-timeout", "proxy-send-timeout"):
            self.assertGreaterEqual(int(ingress["metadata"]["annotations"][f"nginx.ingress.kubernetes.io/{name}"]), 75)
        (rule,) = ingress["spec"]["rules"]
        backend = rule["http"]["paths"][0]["backend"]["service"]
        self.assertEqual(backend["name"], parts["Service"]["metadata"]["name"])
        self.assertEqual(variables["HOMEROOM_PUBLIC_URL"]["value"], f"https://{rule['host']}")
        invitations = documented[-1]
        self.assertEqual(invitations["metadata"]["annotations"]["nginx.ingress.kubernetes.io/enable-access-log"], "false")
        rule["http"]["paths"][0]["path"] = "/i/"
        self.assertEqual(invitations["spec"], ingress["spec"])


def image_drain():
    return int(re.search(r"HOMEROOM_DRAIN_SECONDS=(\d+)", (HERE / "Dockerfile").read_text())[1])


if __name__ == "__main__":
    unittest.main()
