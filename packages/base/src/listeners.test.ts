import { describe, expect, test } from "vitest";
import { Listeners } from "./listeners.ts";

describe("listeners", () => {
  test("are told in the order they came, until they leave", () => {
    const heard: string[] = [];
    const listeners = new Listeners<[word: string, count: number]>();
    expect(listeners.isEmpty).toBe(true);
    const leave = listeners.add((word, count) => heard.push(`first ${word} ${count}`));
    listeners.add((word) => heard.push(`second ${word}`));
    listeners.tell("a", 1);
    leave();
    listeners.tell("b", 2);
    expect(heard).toEqual(["first a 1", "second a", "second b"]);
    expect(listeners.isEmpty).toBe(false);
  });

  test("may leave while they are told", () => {
    const heard: string[] = [];
    const listeners = new Listeners<[string]>();
    const leave = listeners.add(() => leave());
    listeners.add((word) => heard.push(word));
    listeners.tell("a");
    listeners.tell("b");
    expect(heard).toEqual(["a", "b"]);
  });
});
