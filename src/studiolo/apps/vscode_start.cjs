// Is code-server, and has an extension registry asked for extensions once the server listens.
//
//     node vscode_start.cjs CODE-SERVER CACHE [EXTENSION ...] -- ARGUMENT ...
//
// CODE-SERVER is the folder of its package, CACHE one that this server alone writes. code-server's own entry loads all of
// itself, then starts a second process that loads all of it again, so that the first can exchange the second for another
// version. Here nobody exchanges it: the agent restarts what ends, and versions come with the tools. So what the second
// process would do is done at once, in half the time and four fifths of the memory.
//
// A registry that cannot be reached, or an extension that does not exist, never delays or stops a start: it is one line
// in the log.
"use strict";

const { execFile } = require("node:child_process");
const { readdirSync } = require("node:fs");
const { createRequire, enableCompileCache } = require("node:module");
const { setPriority } = require("node:os");
const { join } = require("node:path");
const { constants } = require("node:zlib");

const PATIENCE = 300_000; // milliseconds for one extension
const UNREACHABLE =
  /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT/;

const [node, , server, cache, ...rest] = process.argv;
const end = rest.indexOf("--");
const wanted = rest.slice(0, end);
const entry = join(server, "out/node/entry.js");

// Byte code of this process's modules, not of what is run in it: no variable says so to terminals and extensions. Node
// checks each file against its source, writes it beside and renames it, and goes without where it cannot.
enableCompileCache(cache);

const installing = { ...process.env };
// What code-server's second process is told and looks like.
process.env.CODE_SERVER_PARENT_PID = String(process.pid);
process.env.NODE_EXEC_PATH = node;
process.argv = [node, entry];

const its = createRequire(entry);

// The page is one script of 19 MB, packed for every browser that has not been here. At its lowest level that takes a
// third of the time, and the script is a quarter longer: less to wait for, unless the line is slower than 20 Mbit/s.
const QUICKLY = { level: 1, brotli: { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } } };
const compression = its("compression");
its.cache[its.resolve("compression")].exports = () => compression(QUICKLY);

const { logger } = its("@coder/logger");
const { parse, readConfigFile, setDefaults } = its("./cli");
const { runCodeServer } = its("./main");
const { wrapper } = its("./wrapper");

// After code-server's out/node/entry.js, what it does as a second process.
async function start() {
  const given = parse(rest.slice(end + 1));
  const args = await setDefaults(given, await readConfigFile(given.config));
  wrapper.preventExit();
  const running = await runCodeServer(args);
  wrapper.onDispose(() => running.dispose());
  // Not waited for, and whatever goes wrong with it is not the server's end.
  install(args, missing(args["extensions-dir"])).catch((error) => logger.error(error.message));
}

function missing(folder) {
  let there = [];
  try {
    there = readdirSync(folder);
  } catch {
    // there is no such folder before the first extension
  }
  return wanted.filter((name) => {
    const begin = `${name.toLowerCase()}-`;
    return !there.some((each) => each.startsWith(begin) && /\d/.test(each[begin.length]));
  });
}

async function install(args, names) {
  const places = ["user-data-dir", "extensions-dir", "config"].flatMap((each) => [`--${each}`, args[each]]);
  for (const name of names) {
    const said = await complaint([entry, ...places, "--install-extension", name]);
    if (UNREACHABLE.test(said)) {
      console.log(`no extension registry can be reached, so ${names.join(", ")} stay away`);
      return;
    }
    if (said) {
      const lines = said.split("\n").filter((line) => line.toLowerCase().includes(name.toLowerCase()));
      console.log(`the extension ${name} could not be installed: ${lines.at(-1) ?? said.trim()}`);
    }
  }
}

/** What a program that fails says; empty where it does not fail. */
function complaint(words) {
  return new Promise((resolve) => {
    const limits = { env: installing, timeout: PATIENCE, killSignal: "SIGKILL", maxBuffer: 1 << 24 };
    // It stays in the session, so it ends with the app.
    const child = execFile(node, words, limits, (error, stdout, stderr) =>
      resolve(error ? `${stdout}${stderr}${error.killed ? "ETIMEDOUT" : ""}` || error.message : ""),
    );
    try {
      setPriority(child.pid, 10);
    } catch {
      // it could not be started, or has ended
    }
  });
}

start().catch((error) => {
  logger.error(error.message);
  wrapper.exit(error);
});
