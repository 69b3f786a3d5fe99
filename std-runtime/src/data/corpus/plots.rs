//! The words and plots of the built-in corpus. `Cast::expand` documents the template syntax.

/// A title and paragraphs.
type Plot = &'static [&'static str];

/// Names, and whether their bearer is "she".
pub(super) const NAMES: &[(&str, bool)] = &[
    ("Mira", true),
    ("Tilo", false),
    ("Anna", true),
    ("Bram", false),
    ("Wilma", true),
    ("Otto", false),
    ("Nora", true),
    ("Finn", false),
    ("Pia", true),
    ("Jonas", false),
    ("Lena", true),
    ("Emil", false),
    ("Ida", true),
    ("Hugo", false),
    ("Tess", true),
    ("Ned", false),
    ("Ruth", true),
    ("Oskar", false),
    ("Greta", true),
    ("Malo", false),
    ("Selma", true),
    ("Rolf", false),
    ("Juno", true),
    ("Kasper", false),
];

pub(super) const KINDS: &[&str] = &[
    "young fox",
    "small hare",
    "grey mouse",
    "hedgehog",
    "young otter",
    "brown duck",
    "white goat",
    "little badger",
    "owl with one bad wing",
    "squirrel",
    "small bear",
    "young frog",
    "sparrow",
    "old donkey",
    "black cat",
    "farm dog",
];

/// Characters who are asked for advice, and whether their pronoun is "she".
pub(super) const ELDERS: &[(&str, bool)] = &[
    ("the old tortoise", false),
    ("the miller", false),
    ("the baker", true),
    ("the ferryman", false),
    ("the lighthouse keeper", true),
    ("the shepherd", false),
    ("the grey heron", true),
    ("the clockmaker", true),
    ("the oldest toad", false),
    ("the beekeeper", true),
    ("the night watchman", false),
    ("the weaver", true),
];

pub(super) const PLACES: &[&str] = &[
    "the mill",
    "the stone bridge",
    "the lake",
    "the market",
    "the old well",
    "the lighthouse",
    "the big oak",
    "the harbour",
    "the ruined tower",
    "the edge of the forest",
    "the crossroads",
    "the bakery",
    "the hill with three trees",
    "the frozen pond",
];

pub(super) const THINGS: &[&str] = &[
    "lantern",
    "silver key",
    "red kite",
    "wooden flute",
    "small drum",
    "blue scarf",
    "brass bell",
    "copper kettle",
    "warm coat",
    "old map",
    "umbrella",
    "iron ring",
    "feather pen",
    "round mirror",
    "glass marble",
    "straw hat",
    "apple basket",
    "fishing rod",
];

pub(super) const FOODS: &[&str] = &[
    "a loaf of bread",
    "a honey cake",
    "a bowl of soup",
    "a ripe pear",
    "a piece of cheese",
    "a bag of nuts",
    "a pot of jam",
    "a warm bun",
    "a plum pie",
    "a basket of berries",
];

pub(super) const HOMES: &[&str] = &[
    "in a small house by the river",
    "at the edge of a dark forest",
    "in a village under the mountain",
    "on an island with one tall tree",
    "behind the old mill",
    "near the harbour, where the boats sleep",
    "in a valley full of sheep",
    "above the bakery in a narrow street",
    "under the roots of a beech",
    "in the last house before the hills",
];

pub(super) const SEASONS: &[&str] = &["spring", "summer", "autumn", "winter"];

pub(super) const TRAITS: &[&str] =
    &["brave", "patient", "curious", "kind", "stubborn", "honest", "quiet", "cheerful", "careful", "proud"];

pub(super) const NUMBERS: &[&str] = &["three", "four", "five", "six", "seven", "nine", "ten"];

/// The wishes, and a sentence for when each comes true.
pub(super) const WISHES: &[(&str, &str)] = &[
    ("to see the sea", "The sea was wide and grey, and it never stopped talking."),
    ("to climb the highest hill", "From the top of the hill all the houses looked like crumbs on a table."),
    ("to cross the great river", "On the other side of the river the grass was just as green, and {hero} had to laugh."),
    ("to hear the whales sing", "The whales sang so low that {hero} felt it in {his} feet before {he} heard it."),
    ("to touch a cloud", "The cloud was cold and wet, like a shirt on the line."),
    ("to find the end of the road", "At the end of the road there was a gate, and behind the gate a new road began."),
    ("to watch the sun rise over the snow", "The sun rose, and for a moment all the snow was pink."),
    ("to visit the city of bells", "In the city of bells every hour was a song, and nobody was ever late."),
];

/// Riddles and their answers.
pub(super) const RIDDLES: &[(&str, &str)] = &[
    ("What has teeth but never bites?", "a comb"),
    ("What runs all day and never leaves its bed?", "a river"),
    ("What has a neck but no head?", "a bottle"),
    ("What grows wetter the more it dries?", "a towel"),
    ("What has one eye and cannot see?", "a needle"),
    ("What is full of holes and still holds water?", "a sponge"),
    ("What grows when it eats and dies when it drinks?", "a fire"),
    ("What has hands but cannot clap?", "a clock"),
    ("What goes up when the rain comes down?", "an umbrella"),
    ("What follows you all day and leaves you at night?", "a shadow"),
    ("What has many leaves but is not a tree?", "a book"),
    ("What can travel the world and stay in its corner?", "a stamp"),
];

pub(super) const PLOTS: &[Plot] = &[LOST, WISH, QUARREL, STORM, RIDDLE, GIFT, SEED, TRADES, NIGHT, RACE, LETTER, PROMISE];

const LOST: Plot = &[
    "{hero} and the lost {thing}",
    "[Once there was {a kind} named {hero} who lived {home}.|{hero} was {a kind} and lived {home}.] [Nothing was dearer to {him} than {his} {thing}.|{^he} had {a thing}, and {he} took it everywhere.]",
    "One {season} morning the {thing} was gone. {hero} looked [under the bed|behind the stove|in every corner] and [under the table|on the shelf|in the garden], but it was not there. [\"I will find it,\" {he} said, and {he} walked to {place}.|{^he} did not cry. {^he} put on {his} shoes and went to {place}.]",
    "At {place} sat {friend}, {a fkind}. \"Have you seen my {thing}?\" asked {hero}. \"[No|Not today|I have not],\" said {friend}, \"but [I saw {elder} carry something to {place2}|I heard {elder} talk about it at {place2}]. [Let us go together|I will come with you|Take me with you].\"",
    "They went [over the hill|along the stream|through the tall grass|down the long road], {hero} in front and {friend} behind, and they [sang|talked|counted birds] until they came to {place2}.",
    "{^elder} was [sitting in the sun|mending a net|counting clouds|sweeping the steps]. Beside {ehim} lay the {thing}. \"I found it [on the road|in the mud|under a leaf|behind a stone],\" said {elder}. \"I did not know whose it was, so I kept it [dry|clean|safe].\"",
    "\"It is mine,\" said {hero}, \"and I thank you.\" {^he} gave {elder} {food}, and {friend} got [half of it|a piece of it] too. [From that day on {hero} tied the {thing} to {his} bed at night.|That night the {thing} was back in its place, and {hero} slept well.|And if the {thing} is not lost again, {he} has it still.]",
];

const WISH: Plot = &[
    "The wish of {hero}",
    "[In a country far from here|Long ago|When the hills were young], {a kind} named {hero} lived {home}. {^he} had one wish: {he} wanted {wish}.",
    "The first time, {hero} [ran as fast as {he} could|left before breakfast|told nobody and set out alone]. But [{his} legs grew tired|it began to rain|it grew dark too soon], and {he} had to turn back at {place}.",
    "The second time, {he} took {a thing} along. But [the {thing} was heavy|the {thing} was of no use at all|the wind took the {thing} and threw it into a tree], and {he} had to turn back at {place2}.",
    "\"Why do you look so sad?\" asked {friend}, {a fkind}. \"I want {wish},\" said {hero}, \"and I have tried two times.\" \"Then try a third time,\" said {friend}, \"and take me with you.\"",
    "The third time, they went together. When {hero} was tired, {friend} [sang a song|told a story|made a joke]. When {friend} was tired, {hero} [carried {fhis} bag|gave {fhim} {food}|held {fhis} hand]. They passed {place}, and they passed {place2}, and they did not turn back.",
    "[At last|In the evening|On the morning of the third day] they were there. {wish-seen}",
    "\"It is [better|bigger|more beautiful] than I thought,\" said {hero}. \"That is because there are two of us,\" said {friend}.",
];

const QUARREL: Plot = &[
    "The {thing} that belonged to two",
    "{hero} and {friend} were the best of friends. {hero} was {a kind} and {friend} was {a fkind}, and they both lived {home}.",
    "One {season} day they found {a thing} near {place}. \"I saw it first,\" said {hero}. \"But I picked it up,\" said {friend}. [They pulled until the {thing} almost broke.|They shouted so loudly that the birds flew away.|They did not say another word all day.]",
    "\"Let us ask {elder},\" said {hero} at last. {^elder} listened to [both of them|the one and then the other], and [closed {ehis} eyes for a while|looked at the {thing} for a long time|drank a cup of tea].",
    "[\"I will keep it until tomorrow,\" said {elder}. \"Then each of you will tell me what the other could do with it.\"|\"It belongs to the one who can say why the other should have it,\" said {elder}.]",
    "That night neither of them slept. In the morning {hero} said, \"{friend} should have the {thing}, because {fhe} [has so few things|would take good care of it|needs it more than I do].\" And {friend} said, \"{hero} should have the {thing}, because {he} [saw it first|is my friend|would be so happy].\"",
    "{^elder} laughed and gave it to both of them. [{hero} had it on some days and {friend} on the others.|Since then the {thing} hangs on the wall between their two doors.|They used it together, and it lasted twice as long.]",
];

const STORM: Plot = &[
    "{hero} and the great storm",
    "[All through the {season} the sky had been clear.|Nobody could remember such {a season}.] Then, one evening, a storm came over the houses and shook every door. {hero}, {a kind} who lived {home}, [sat by the fire|lay awake|looked out of the window] and listened.",
    "\"[Help!|Is anyone there?]\" called a voice outside. It was {friend}, {a fkind}, wet to the bones. \"{^elder} is still at {place},\" said {friend}, \"and the water is rising.\"",
    "{hero} was [small|not very strong|no hero], but {he} was {trait}. {^he} took {his} {thing} [in one hand|under one arm] and {friend} by the other. \"[Stay close to me|Do not let go],\" {he} said.",
    "They went step by step. Near {place2} [a tree had fallen across the road|the bridge was gone|the path was under water], and they had to [climb|crawl|walk a long way round]. {^friend} wanted to turn back. \"[Only a little more|Count to {number} and then look up],\" said {hero}.",
    "At {place} they found {elder}, who had climbed onto [a cart|a roof|a wall]. \"I thought that nobody would come,\" said {elder}. \"[Then you thought wrong|We are somebody],\" said {hero}, and held out {his} hand.",
    "In the morning the storm was over. {^elder} made {food} for all of them, and {friend} told the tale [{number} times|to everyone who passed]. [Each time the storm grew bigger.|And each time {hero} said that it was nothing.]",
];

const RIDDLE: Plot = &[
    "The riddle at {place}",
    "{hero}, {a kind}, had to bring {a thing} to {elder}, who lived beyond {place}. But at {place} [stood a guard with a long beard|sat a giant with a small chair|lay a dog as big as a barn], and nobody could pass without an answer.",
    "\"Here is my question,\" said the voice. \"{riddle}\" {hero} thought [and thought|until {his} head hurt|for a long time]. \"Is it {wrong-answer}?\" {he} asked. \"No,\" said the voice. \"You may try [once more|again tomorrow].\"",
    "{hero} sat down [on a stone|in the grass|by the road], and {friend}, {a fkind}, sat down beside {him}. \"I do not know it either,\" said {friend}, \"but [say it slowly|say it again].\" \"{riddle}\" said {hero}. They looked at [the sky|their feet|the things in their bags], and then they both began to laugh.",
    "{hero} stood up. \"It is {answer},\" {he} said. \"{^answer} it is,\" said the voice. \"{^number} years I have waited for somebody who knows. You may pass, and your friend too.\"",
    "So {hero} brought the {thing} to {elder}. \"Was the road hard?\" asked {elder}. \"[Only in one place|Not with a friend],\" said {hero}, and asked {ehim} the riddle. {^elder} [is thinking to this day|said that it must be {wrong-answer}].",
];

const GIFT: Plot = &[
    "{^food} for {elder}",
    "It was the birthday of {elder}. {hero}, {a kind} who lived {home}, packed {food} for {ehim} and set out in the {season} sun.",
    "At {place} {he} met {friend}, {a fkind}. \"I have eaten nothing since yesterday,\" said {friend}. {hero} looked at [{his} gift|what {he} carried]. \"[Take some of it|Half of it is enough for a birthday],\" {he} said.",
    "At {place2} sat {third}, who was [cold|tired|sad] and hungry too. \"Only a small piece,\" said {third}. And {hero}, who was {trait}, gave {third} a small piece, and then [one more|another one].",
    "When {he} came to {place3}, where {elder} lived, [there was nothing left but crumbs|{his} hands were empty]. \"I had {food} for you,\" said {hero}, \"but the road was full of hungry people.\"",
    "\"Then sit down and eat with me,\" said {elder}. [They had not yet begun|The water was not yet hot] when there was a knock at the door. It was {friend} with {food2}, and behind {fhim} came {third} with {food3}.",
    "\"[This is the best birthday I have had|I have never had so many guests],\" said {elder}. And {hero} thought that {a thing} would have been [easier to carry|less trouble], but not half as good.",
];

const SEED: Plot = &[
    "The seed of {hero}",
    "{hero} was {a kind} who lived {home}. In the {season} {elder} gave {him} a seed. \"What will it be?\" asked {hero}. \"Wait,\" said {elder}, \"and you will see.\"",
    "{^he} put the seed into the ground near {place}. {^he} gave it water on the first day, and on the second day, and on the third day. Nothing happened.",
    "\"[It is only a stone|You are wasting your water],\" said {friend}, {a fkind}. \"Come and play.\" \"[Tomorrow|Later],\" said {hero}, and gave the seed some water. {^he} was [a little sad|not sure any more], but {he} was {trait}.",
    "After {number} days there was a green tip, no longer than a nail. After {number} weeks it had two leaves. After {number} years it was a tree, [taller than the house|as wide as a barn], and the birds came from {place2} to live in it.",
    "One hot day {friend} sat down in its shade. \"Do you remember,\" {fhe} asked, \"when I said that it was [only a stone|a waste of water]?\" \"I remember,\" said {hero}, and they both looked up into the leaves.",
    "[In the evening|When the first fruit was ripe] {hero} brought {food} to {elder}. \"Now I know what it is,\" said {hero}. \"So do I,\" said {elder}. \"It is [patience|time].\"",
];

const TRADES: Plot = &[
    "The trades of {hero}",
    "[There was once|Far away there lived] {a kind} named {hero} who had nothing but {a thing}. \"[I would rather have|What I need is] {food},\" said {hero}, and {he} went to the market to trade.",
    "On the way {he} met {friend}. \"I have {a thing2},\" said {friend}, \"but I have always wanted {a thing}.\" So {hero} gave {friend} the {thing} and took the {thing2}.",
    "At {place} {he} met {third}. \"I have {a thing3},\" said {third}, \"but I have always wanted {a thing2}.\" So {hero} gave {third} the {thing2} and took the {thing3}.",
    "At {place2} {he} met {elder}. \"That is a fine {thing3},\" said {elder}. \"Will you give it to me for {food}?\" {hero} [did not think twice|nodded at once]. {^he} gave {ehim} the {thing3} and [sat down to eat|ate with great joy].",
    "When {he} was [full|done], {he} thought about it. \"This morning I had {a thing},\" {he} said, \"then I had {a thing2}, then I had {a thing3}, and now I have nothing at all.\"",
    "\"You have {number} new friends,\" said {elder}, \"and {friend} is [happy|rich] with the {thing}.\" {hero} [laughed and walked home|had to laugh]. [And the next day {he} began again.|It had been a good day.]",
];

const NIGHT: Plot = &[
    "{hero} and the noise in the night",
    "{hero}, {a kind}, lived {home}. {^he} was {trait} by day, but at night {he} was afraid of the dark.",
    "One {season} night there was a noise. [Tap, tap, tap.|Scratch, scratch, scratch.|Bump, bump, bump.] It came from [under the floor|behind the wall|the other side of the door]. {hero} [pulled the blanket over {his} head|held {his} breath|counted to {number}]. The noise came again.",
    "\"[Perhaps it is a wolf|Perhaps it is a ghost],\" thought {hero}. \"But perhaps it is [only the wind|nothing].\" {^he} took {his} {thing} and went to look, one step after the other, and {his} heart beat like a drum.",
    "In the dark sat {friend}, {a fkind}, and shook with cold. \"[I did not want to wake you|I was afraid to knock],\" said {friend}. \"I lost my way at {place}, and I heard a noise, and I thought it was a wolf.\"",
    "\"That was me,\" said {hero}. \"I was afraid of you.\" \"And I was afraid of you,\" said {friend}. {hero} made a fire and gave {fhim} {food}, and they [talked until the sun came up|laughed about the wolf].",
    "Since that night {hero} [is no longer afraid of the dark|sleeps with the door open]. When {he} hears a noise, {he} says, \"[Come in, whoever you are|Who is hungry now]!\" and puts another cup on the table.",
];

const RACE: Plot = &[
    "The race to {place}",
    "\"I am faster than you,\" said {friend}, {a fkind}. \"We will see,\" said {hero}, {a kind}. They asked {elder} to be the judge. \"From {place2} to {place},\" said {elder}, \"and the winner gets {a thing}.\"",
    "One, two, three, and they ran. {friend} was [soon far ahead|first over the hill|out of sight before {hero} had taken ten steps]. {hero} ran as well as {he} could, and {he} did not [look back|stop].",
    "Half way, at {place3}, {third} sat by the road with a broken cart. {friend} had run past. [\"Will you help me?\" asked {third}.|\"Nobody has time for me,\" said {third}.] {hero} looked at the road, and {he} looked at the cart. Then {he} [pushed|pulled] with all {his} strength until the cart [stood|rolled] again.",
    "[\"Jump on,\" said {third}. \"I am going to {place} myself.\"|\"Where are you going in such a hurry?\" asked {third}. \"To {place}? So am I. Sit down beside me.\"] The cart rolled down the hill faster than any {fkind} can run.",
    "They came to {place} at the same moment, {friend} on {fhis} feet and {hero} on the cart. \"Who is the winner?\" they asked. {^elder} [scratched {ehis} head|smiled]. \"{friend} ran faster,\" said {elder}, \"but {hero} came further.\"",
    "So {friend} got the {thing}, and {hero} got [a ride home|{food}|a friend with a cart]. Both of them thought that they had won.",
];

const LETTER: Plot = &[
    "A letter for {hero}",
    "One day in {season} a letter came to {hero}, {a kind} who lived {home}. It was the first letter of {his} life. [The rain had washed away half of the words.|It smelled of smoke and the sea.]",
    "\"Dear {hero},\" it said, \"come to {place} when the moon is round. I need your help. Bring {a thing}.\" There was no name under it.",
    "\"Do not go,\" said {friend}, {a fkind}. \"It could be [a trick|a thief|anyone].\" \"It could be somebody who needs {a thing},\" said {hero}. {^he} waited for {number} nights. Then the moon was round, and {he} went. {friend} [came too, but only to look|walked behind {him} and said nothing].",
    "At {place} stood {elder} in the moonlight. \"I wrote to everyone,\" said {elder}, \"and you are the only ones who came.\" \"What do you need?\" asked {hero}. \"[My hands are old|My eyes are weak],\" said {elder}. \"I cannot [open my own door|light my lamp|reach the top shelf] any more.\"",
    "It was soon done, with the {thing} and four hands. {^elder} gave them {food}, and they sat at {place} until the moon went down.",
    "Now {hero} gets a letter every month. It always says the same: \"Dear {hero}, come to {place}. Bring {friend}.\"",
];

const PROMISE: Plot = &[
    "The promise of {hero}",
    "\"Promise that you will bring back my {thing} before the {season} is over,\" said {elder}. \"I promise,\" said {hero}, {a kind} who lived {home}, and took the {thing} along.",
    "It was a good {thing}. {hero} showed it at {place}, and {he} showed it at {place2}. \"[Sell it to me|Give it to me],\" said {friend}, {a fkind}. \"I will give you {food} and {a thing2} for it.\" \"It is not mine,\" said {hero}.",
    "The days went by, and {hero} [forgot the promise|thought of other things]. Then one night {he} woke up. \"Tomorrow the {season} is over,\" {he} said, \"and {elder} lives [on the other side of the forest|a long day from here].\"",
    "{^he} ran out into the dark. At {place3} {he} fell and hurt {his} foot. {friend} heard {him} and came with a light. \"Leave it,\" said {friend}. \"It is only {a thing}.\" \"It is not the {thing},\" said {hero}. \"It is the promise.\" So {friend} [took {him} on {fhis} back|gave {him} a stick to lean on], and they went on.",
    "The sun was just going down when they knocked. {^elder} looked at the {thing}, and {ehe} looked at the foot. \"You were nearly late,\" said {elder}. \"But only nearly,\" said {hero}.",
    "\"Keep it,\" said {elder}. \"[It is easy to find {a thing}. It is hard to find one who keeps {his} word.|I can buy another {thing}. A promise cannot be bought.]\" And {ehe} gave {friend} {food} for the way home.",
];
