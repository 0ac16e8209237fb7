/** passwd and group are written by the user of the sprite: anything may stand there. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { findUser, parseEnvironment } from "./user.ts";

const PASSWD = "root:x:0:0:root:/root:/bin/bash\nsprite:x:1001:1002:,,,:/home/sprite:/bin/zsh\n";
const GROUP = "root:x:0:\nsudo:x:27:other,sprite\nsprite:x:1002:\ndocker:x:999:sprite\nnot:x:5:spriteful\n";

const find = (passwd: string, group: string) => findUser("sprite", { passwd, group, environment: "" });

describe("findUser", () => {
  test("[SESS-7] finds ids, groups, home and shell", () => {
    expect(find(PASSWD, GROUP)).toEqual({
      name: "sprite",
      uid: 1001,
      gid: 1002,
      groups: [1002, 27, 999],
      home: "/home/sprite",
      shell: "/bin/zsh",
      variables: {},
    });
  });

  test("an unusable line counts as no such user, an unusable home as the root directory", () => {
    expect(find("sprite:x:-1:0::/:/bin/sh", "")).toBeUndefined();
    expect(find("sprite:x:99999999999:0::/:/bin/sh", "")).toBeUndefined();
    expect(findUser("nobody", { passwd: PASSWD, group: GROUP, environment: "" })).toBeUndefined();
    expect(find("sprite:x:1:1:::", "")).toMatchObject({ home: "/", shell: "/bin/sh" });
  });

  test("no content makes it throw or ask for more groups than the kernel takes", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (passwd, group) => {
        const user = find(`sprite:x:1:1::/h:/s\n${passwd}`, group);
        expect(user?.groups.length).toBeLessThanOrEqual(256);
      }),
    );
    const many = Array.from({ length: 5000 }, (_, index) => `g${index}:x:${index}:sprite`).join("\n");
    expect(find(PASSWD, many)?.groups).toHaveLength(256);
  });
});

describe("parseEnvironment", () => {
  test("[SESS-7] plain, quoted and exported values; everything else is passed over", () => {
    const text = 'PATH="/a:/b"\nLANG=C.UTF-8\nexport GOROOT=\'/usr/lib/go\'\n# a remark\n1BAD=x\nno value\nEMPTY=\nQ="a" b"\n';
    expect(parseEnvironment(text)).toEqual({ PATH: "/a:/b", LANG: "C.UTF-8", GOROOT: "/usr/lib/go", EMPTY: "", Q: 'a" b' });
  });

  test("no content makes it throw or grow without bound", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(Object.keys(parseEnvironment(text)).length).toBeLessThanOrEqual(256);
      }),
    );
    expect(Object.keys(parseEnvironment(Array.from({ length: 1000 }, (_, index) => `V${index}=1`).join("\n")))).toHaveLength(256);
  });
});
