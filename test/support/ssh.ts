import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import path from "node:path";
import { cacheFolder } from "../../src/installation.ts";
import { freePort, type Road, startServer } from "./roads.ts";

const SSHD = "/usr/sbin/sshd";

/** Real ssh and sshd (Debian's openssh-server), with keys of their own. */
export const ssh: Road = {
  name: "ssh",
  isThere: () => existsSync(SSHD),
  async start(folder) {
    const file = (name: string) => path.join(folder, name);
    for (const key of ["host", "user"]) execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file(key)]);
    writeFileSync(file("authorized"), readFileSync(file("user.pub")), { mode: 0o600 });
    // sshd of root wants this folder.
    if (process.getuid?.() === 0) mkdirSync("/run/sshd", { recursive: true });
    const port = await freePort();
    const config = [
      `Port ${port}`,
      "ListenAddress 127.0.0.1",
      `HostKey ${file("host")}`,
      `AuthorizedKeysFile ${file("authorized")}`,
      "PasswordAuthentication no",
      "PermitRootLogin prohibit-password",
      "StrictModes no",
      "UsePAM no",
      "PidFile none",
    ];
    writeFileSync(file("sshd_config"), `${config.join("\n")}\n`);
    const server = await startServer(SSHD, ["-D", "-e", "-f", file("sshd_config")], "Server listening");
    writeFileSync(file("known"), `[127.0.0.1]:${port} ${readFileSync(file("host.pub"), "utf8")}`);
    const options = ["-F", "none", "-p", `${port}`, "-i", file("user"), "-o", `UserKnownHostsFile=${file("known")}`, "-o", "BatchMode=yes"];
    const command = ["ssh", ...options, `${userInfo().username}@{host}`, `PRELORT_CACHE=${cacheFolder()}`];
    return { command, hosts: ["127.0.0.1"], servers: [server] };
  },
};
