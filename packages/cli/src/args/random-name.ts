/** Friendly names for sprites that got none: two words and a number, valid as a host name. Pure. */

const FIRST =
  "amber brave bright calm clear clever cosmic crisp dapper eager early fresh gentle golden happy jolly keen kind lively lucky lunar mellow merry misty nimble noble polar proud quick quiet rapid royal rustic sharp shiny silent silver sleek smart snowy solar spry steady sunny swift tidy vivid warm wise witty zesty".split(
    " ",
  );
const SECOND =
  "badger beacon birch bison brook canyon cedar cliff comet coral crane creek delta dune falcon fern finch fjord forest fox glade grove harbor heron island ivy juniper lagoon lark maple marten meadow moss oak orchid otter owl pebble pine plover prairie raven reef ridge river robin sparrow spruce summit thistle tide valley willow wren".split(
    " ",
  );

/** A name such as `swift-otter-417`. `random` gives numbers in [0, 1). */
export function randomName(random: () => number = Math.random): string {
  const pick = (words: readonly string[]): string => words[Math.floor(random() * words.length)] ?? "sprite";
  return `${pick(FIRST)}-${pick(SECOND)}-${100 + Math.floor(random() * 900)}`;
}
