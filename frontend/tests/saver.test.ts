/** What must not lose a judgement: server down, refused, overtaken, reloaded, in two tabs, on another study. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { shown } from "../src/api";
import { allDrafts, same, type Origin } from "../src/lib/drafts";
import { Saver } from "../src/saver.svelte";
import type { Annotation, Judgement, Place } from "../src/types";
import { Store } from "./store";

/** The server of one study: compares versions as the real one does. */
class Server {
  stored = new Map<string, Annotation>();
  puts: Annotation[] = [];
  /** Answers that come instead, one for each request; "lost" stores it and loses the answer. */
  instead: (number | "down" | "lost")[] = [];
  constructor(public key: string) {}

  fetch = async (url: string, options: RequestInit): Promise<Response> => {
    expect([url, options.method]).toEqual(["api/annotations", "PUT"]);
    const given = JSON.parse(String(options.body)) as Annotation,
      next = this.instead.shift();
    if (next === "down") throw new TypeError("failed to fetch");
    if (typeof next === "number") return answer(next, { detail: `answer ${next}` });
    const key = (options.headers as Record<string, string>)["cytosae-study"];
    if (key !== this.key) return answer(409, { detail: "another study" });
    this.puts.push(given);
    const at = JSON.stringify([given.worklist, given.dataset, given.latent, given.rater]),
      there = this.stored.get(at) ?? null;
    if (given.version !== (there?.version ?? 0)) return answer(409, { detail: "changed", current: there });
    const stored = { ...given, version: given.version + 1 };
    this.stored.set(at, stored);
    if (next === "lost") throw new TypeError("connection reset");
    return answer(200, stored);
  };
}
const answer = (status: number, body: unknown): Response => new Response(JSON.stringify(body), { status });

const one: Origin = { key: "one", name: "my-study", autoencoder: "a" },
  other: Origin = { key: "other", name: "my-study", autoencoder: "b" };
const place: Place = { worklist: null, dataset: "pbc", latent: 5, rater: "AB" };
const says = (name: string): Judgement => ({
  verdict: "meaningful",
  name,
  comment: "",
  terms: {},
  specific_for: null,
});
let store: Store, server: Server;

/** A page of a study, just loaded. */
function page(origin = one): Saver {
  const saver = new Saver();
  shown.key = origin.key;
  saver.begin(origin);
  return saver;
}
const wait = (seconds = 1): Promise<unknown> => vi.advanceTimersByTimeAsync(1000 * seconds);
const drafts = (): string[] => allDrafts(store).map((draft) => draft.annotation.name);
const names = (): string[] => [...server.stored.values()].map((stored) => stored.name);
const status = (saver: Saver): string | undefined => saver.state(place)?.status;

beforeEach(() => {
  vi.useFakeTimers();
  store = new Store();
  server = new Server("one");
  vi.stubGlobal("localStorage", store);
  vi.stubGlobal("fetch", (url: string, options: RequestInit) => server.fetch(url, options));
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

test("a judgement is kept in the moment it is typed, and until the server has it", async () => {
  const saver = page();
  saver.open(place, null);
  saver.change(place, says("granules"));
  expect(drafts()).toEqual(["granules"]);
  await wait();
  expect([names(), drafts(), status(saver), saver.acknowledged]).toEqual([["granules"], [], "saved", 1]);
});

test.each(["down", 500, 502, 503, 401, 403, 429] as const)(
  "a server that answers %s is asked until it takes it",
  async (fault) => {
    server.instead = [fault, fault, fault];
    const saver = page();
    saver.open(place, null);
    saver.change(place, says("granules"));
    await wait(1);
    expect([names(), drafts(), status(saver)]).toEqual([[], ["granules"], "waiting"]);
    await wait(10);
    expect([names(), drafts(), status(saver)]).toEqual([["granules"], [], "saved"]);
  },
);

test.each([400, 404, 413, 422])(
  "what the server does not accept (%d) stays in the browser and is sent again when asked",
  async (fault) => {
    server.instead = [fault];
    const saver = page();
    saver.open(place, null);
    saver.change(place, says("granules"));
    await wait(10);
    expect([names(), drafts(), status(saver), saver.state(place)?.message]).toEqual([
      [],
      ["granules"],
      "refused",
      `answer ${fault}`,
    ]);
    saver.change(place, says("granules"), true);
    await wait();
    expect([names(), drafts()]).toEqual([["granules"], []]);
  },
);

test("what was mended while the server refused it is sent by itself", async () => {
  server.instead = [422];
  const saver = page();
  saver.open(place, null);
  saver.change(place, says("too long"), true);
  await wait(0);
  saver.change(place, says("short"));
  await wait();
  expect([names(), drafts(), status(saver)]).toEqual([["short"], [], "saved"]);
});

test("an answer that was lost is no conflict", async () => {
  server.instead = ["lost"];
  const saver = page();
  saver.open(place, null);
  saver.change(place, says("granules"));
  await wait(10);
  expect([names(), drafts(), status(saver)]).toEqual([["granules"], [], "saved"]);
  saver.change(place, says("fine granules"));
  await wait();
  expect([names(), drafts()]).toEqual([["fine granules"], []]);
});

test.each(["flush", "open"] as const)(
  "an answer that the page before did not live to hear is no conflict (%s)",
  async (way) => {
    server.instead = ["lost", "down", "down", "down", "down"];
    const before = page();
    before.open(place, null);
    before.change(place, says(""), true); // the verdict, stored without an answer
    await wait(0.1);
    before.change(place, says("granules"), true);
    await wait(1);
    expect([names(), drafts()]).toEqual([[""], ["granules"]]);
    vi.clearAllTimers(); // the page is gone
    server.instead = [];
    const after = page();
    if (way === "open") after.open(place, [...server.stored.values()][0] ?? null);
    else after.flush("AB");
    await wait(10);
    expect([names(), drafts(), status(after)]).toEqual([["granules"], [], "saved"]);
  },
);

test("a reload before the server has answered loses nothing", async () => {
  server.instead = ["down", "down"];
  const before = page();
  before.open(place, null);
  before.change(place, says("granules"));
  vi.clearAllTimers(); // the page is gone
  const after = page();
  after.flush("AB");
  await wait(10);
  expect([names(), drafts(), status(after)]).toEqual([["granules"], [], "saved"]);
});

test("another rater's drafts wait for that rater", async () => {
  const before = page();
  before.change(place, says("granules"));
  vi.clearAllTimers();
  const after = page();
  after.flush("CD");
  await wait(5);
  expect([names(), drafts()]).toEqual([[], ["granules"]]);
});

test("what somebody else wrote first is shown, and the rater decides", async () => {
  const saver = page(),
    twin = page();
  saver.open(place, null);
  twin.open(place, null);
  twin.change(place, says("theirs"), true);
  await wait();
  saver.change(place, says("mine"), true);
  await wait();
  expect([status(saver), saver.state(place)?.theirs?.name, drafts(), names()]).toEqual([
    "conflict",
    "theirs",
    ["mine"],
    ["theirs"],
  ]);
  saver.change(place, says("mine, changed"));
  await wait(5);
  expect([status(saver), drafts(), names()]).toEqual(["conflict", ["mine, changed"], ["theirs"]]);
  const reloaded = page();
  expect(reloaded.open(place, [...server.stored.values()][0] ?? null).name).toBe("mine, changed");
  expect(status(reloaded)).toBe("conflict");
  reloaded.resolve(place, "mine");
  await wait();
  expect([status(reloaded), drafts(), names()]).toEqual(["saved", [], ["mine, changed"]]);
});

test("a second tab that sends what is being typed in the first is no conflict", async () => {
  const first = page();
  first.open(place, null);
  first.change(place, says("gran"));
  const second = page(); // opened in the middle of a word
  second.flush("AB");
  first.change(place, says("granules"));
  await wait(10);
  expect([status(first), names(), drafts()]).toEqual(["saved", ["granules"], []]);
});

test("two tabs that send one draft send it once", async () => {
  server.instead = ["down"];
  const first = page();
  first.open(place, null);
  first.change(place, says("granules"), true);
  await wait(0);
  const second = page();
  second.flush("AB");
  await wait(10);
  expect([names(), drafts(), [...server.stored.values()][0]?.version]).toEqual([["granules"], [], 1]);
});

test("a study of the same name neither shows nor sends the drafts of another", async () => {
  server.instead = ["down"];
  const before = page();
  before.open(place, null);
  before.change(place, says("of the one"), true);
  await wait(0);
  vi.clearAllTimers();
  server = new Server("other");
  const after = page(other);
  after.flush("AB");
  expect(after.open(place, null).name).toBe("");
  await wait(10);
  expect([names(), server.puts, drafts()]).toEqual([[], [], ["of the one"]]);
  expect(after.strangers.map((draft) => draft.annotation.name)).toEqual(["of the one"]);
  server = new Server("one");
  const again = page();
  again.flush("AB");
  await wait();
  expect([names(), drafts()]).toEqual([["of the one"], []]);
});

test("a page left open while another study is served at its address sends nothing there", async () => {
  const saver = page();
  saver.open(place, null);
  server = new Server("other");
  saver.change(place, says("of the one"));
  await wait(10);
  expect([server.puts, drafts(), status(saver), saver.state(place)?.message]).toEqual([
    [],
    ["of the one"],
    "refused",
    "another study",
  ]);
  server = new Server("one");
  saver.change(place, says("of the one"), true);
  await wait();
  expect([names(), drafts()]).toEqual([["of the one"], []]);
});

test("drafts of an earlier version are sent when the rater says that they belong here", async () => {
  const old = { ...place, ...says("old"), version: 0 };
  store.setItem(
    "cytosae:draft:" + JSON.stringify(["my-study", null, "pbc", 5, "AB"]),
    JSON.stringify({ annotation: old, time: 1 }),
  );
  const saver = page();
  saver.flush("AB");
  await wait(5);
  expect([names(), saver.strangers.length]).toEqual([[], 1]);
  saver.adopt(saver.strangers);
  await wait();
  expect([names(), drafts(), saver.strangers]).toEqual([["old"], [], []]);
});

test("a browser that keeps nothing is said to, and the judgement is sent all the same", async () => {
  server.instead = ["down"];
  store.most = 10;
  const saver = page();
  saver.open(place, null);
  saver.change(place, says("granules"));
  await wait(1);
  expect([status(saver), saver.state(place)?.kept]).toEqual(["waiting", false]);
  await wait(10);
  expect([names(), saver.state(place)?.kept]).toEqual([["granules"], true]);
});

test("nothing is lost whatever the server does", async () => {
  let seed = 7;
  const chance = (): number => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed / 2147483648;
  };
  const faults = ["down", "lost", 500, 503, "down"] as const;
  let saver = page();
  saver.open(place, null);
  for (let i = 0; i < 200; i++) {
    if (chance() < 0.3) server.instead.push(faults[Math.floor(5 * chance())] ?? "down");
    saver.change(place, says(`name ${i}`), chance() < 0.3);
    await vi.advanceTimersByTimeAsync(Math.floor(900 * chance()));
    if (chance() < 0.1) {
      vi.clearAllTimers();
      saver = page();
      saver.open(place, [...server.stored.values()][0] ?? null);
      if (status(saver) === "conflict") saver.resolve(place, "mine");
    }
  }
  await wait(60);
  if (status(saver) === "conflict") {
    saver.resolve(place, "mine");
    await wait(10);
  }
  expect([names(), drafts()]).toEqual([["name 199"], []]);
  expect(same([...server.stored.values()][0] ?? says(""), says("name 199"))).toBe(true);
});
