// Plots that begin with a trouble: fear, a quarrel, a lie, a storm, a noise in the night, somebody who is stuck.
#include "corpus/stories.h"

namespace fathom::corpus {
namespace {

void Fear(Scene& s) {
  Teller& t = s.t;
  struct Dread {
    std::string_view what, where, test;
  };
  constexpr Dread kDreads[] = {
      {"the dark", "in a dark [cellar|cave|tunnel]", "It was as dark as [ink|the inside of a sack] in there."},
      {"deep water", "on a little island in the [river|pond]",
       "The water was [cold|deep] and came up to <h.his> chin."},
      {"thunder", "out in the field, in the middle of a storm",
       "The thunder rolled, and the rain beat into <h.his> face."},
      {"high places", "at the top of a tall tree", "Higher and higher <h.he> climbed, and the ground was far below."},
      {"the deep forest", "in the middle of the forest",
       "The trees creaked, and eyes seemed to shine behind every bush."},
  };
  const Dread& dread = t.Pick(kDreads);
  t.Fix("dread", dread.what);
  t.Fix("where", dread.where);
  s.Theme("being afraid of <dread>", "<h.name> and <Dread>");
  t.Add(
      "[There was only one thing that <h.he> feared: <dread>.|But <h.he> was afraid of <dread>.|<H.He> was not afraid "
      "of much, but <h.he> was very much afraid of <dread>.] [The others sometimes laughed at <h.him> for it.|<H.He> "
      "told nobody about "
      "it.|Whenever somebody spoke of it, <h.he> trembled.]");
  t.Paragraph();
  t.Add(
      "<day> [there was a loud knock at the door. It was <e.intro>.|<e.intro> came running.|<h> met <e.intro>, who was "
      "quite pale.] \"[Help!|Oh, please help!|Something terrible has happened!] <F.Name> is <where> and [cannot get "
      "back|is too frightened to move|has hurt one foot]!\" [<F.Name> was <h.his> best friend, a~ <f.adjective> "
      "<f.kind>.|Now <f.name> was a~ <f.adjective> <f.kind>, and the best friend that <h.name> had.]");
  t.Add(
      "<H.Name> [swallowed hard|turned pale|felt <h.his> knees shake]. <H.He> thought of <dread>. But then <h.he> "
      "thought of <f.name>, who was all alone. \"I [am coming|will go],\" <h.he> said[ in a small voice| bravely| and "
      "took a deep breath|].");
  t.Paragraph();
  t.Add(dread.test);
  t.Add(
      "[<H.His> heart was beating like a drum.|<H.Name> shook from head to foot.|\"I am not afraid, I am not afraid,\" "
      "<h.name> whispered.] [But <h.he> went on, step by step.|But <h.he> did not turn back.|<H.He> sang a little song "
      "to keep up <h.his> courage.] [At last|Then] <h.he> heard "
      "<f.name>'s voice. \"[Here I am|I am here], <h.name>!\"");
  t.Add(
      "[\"Take my hand,\" said <h.name>.|\"Hold on to me,\" said <h.name>.|\"Do not be afraid. I am with you,\" said "
      "<h.name>.] [Slowly|Together|Carefully] they [made their way|came] back, and [soon|after a long time] they were "
      "[safe|both at home]. [<E.Name> wrapped them in a warm blanket.|<E.Name> hugged "
      "them both.|Everybody cheered.]");
  t.Paragraph();
  t.Add(
      "[\"You are the bravest <h.kind> I know,\" said <f.name>.|\"Thank you,\" said <f.name>. \"I will never forget "
      "this.\"|\"Were you not afraid?\" asked <e.name>. \"I was,\" said <h.name>, \"but I went all the same.\"] [To be "
      "brave is to be afraid and to go on anyway.|And <h.name> was never again so "
      "afraid of <dread>.|From that day on nobody laughed at <h.him>.]");
  s.story.ending = t.Say("<H.Name> was brave and brought <f.name> back safely.");
  s.Ask("What was <h.name> afraid of?", "<dread>", "<H.Name> was afraid of <dread>.");
  s.Ask("Who needed help?", "<f.name>", "<F.Full> needed help.");
  s.Ask("Where was <f.name>?", "<where>", "<F.Name> was <where>.");
  s.Ask("Who asked <h.name> for help?", "<e.name>", "<E.Name> asked <h.name> for help.");
}

void Broken(Scene& s) {
  Teller& t = s.t;
  t.Fix("pot", "[blue vase|big mirror|china plate|glass bowl|teapot|flower pot|window|clay jug|lamp]");
  s.Theme("telling the truth", "<h.name> and the Broken <Pot>");
  t.Paragraph();
  t.Add(
      "<day> <h.name> was playing at the house of <e.intro>. [<H.He> threw <h.his> ball higher and higher.|<H.He> was "
      "running around the table, although <e.name> had told <h.him> not to run.|<H.He> danced and jumped with <h.his> "
      "eyes shut.] [Crash!|There was a loud crash.|Then came a terrible sound.] The "
      "<pot> lay on the floor in a hundred pieces.");
  t.Add(
      "[<H.Name> stood quite still.|<H.Name>'s ears grew hot.|\"Oh no!\" whispered <h.name>.] Nobody had seen it. [\"I "
      "could say that the wind did it,\" <h.he> thought.|\"I could hide the pieces under the carpet,\" thought "
      "<h.name>.|\"If I go away quietly, nobody will know,\" <h.he> thought.] [But <h.his> heart felt as heavy as a "
      "stone.|But that did not feel right.]");
  t.Maybe(0.5,
          "[<F.Full> looked in at the window. \"Run away!\" <f.he> said. But <h.name> shook <h.his> "
          "head.|Just then <f.intro> came in and saw it. \"What will you do?\" asked <f.name>. \"I do not know,\" said "
          "<h.name>.]");
  t.Paragraph();
  t.Add(
      "When <e.name> came [home|in|back from the market], <h.name> went up to <e.him>. [With a trembling voice <h.he> "
      "said:|<H.He> took a deep breath.|<H.He> looked at the floor.] \"[I have broken your <pot>. I am so sorry.|It "
      "was I who broke the <pot>. I did not mean to do it.|Please do not be angry. Your <pot> is broken, and I "
      "did it.]\"");
  t.Add(
      "[<E.Name> was silent for a moment.|<E.Name> looked at the pieces and sighed.] Then <e.he> [smiled|put an arm "
      "around <h.name>]. \"[A <pot> can be bought again, but a true word is worth more|I am sad about the <pot>, but "
      "glad that you told me the truth|That took courage],\" said <e.name>.");
  t.Add(
      "[Together they swept up the pieces.|<H.Name> fetched the broom and swept the floor.] [Every Saturday after "
      "that, <h.name> helped in the garden, until the <pot> was paid for.|And the next day <h.name> brought a~ <thing> "
      "of <h.his> own as a present.|And they glued it together so well that one could hardly see the cracks.]");
  t.Add(
      "[<H.Name>'s heart was light again.|Honest words make a light heart.|<H.Name> had learned that the truth is the "
      "shortest way.|]");
  s.story.ending = t.Say("<H.Name> told the truth, and <e.name> forgave <h.him>.");
  s.Ask("What did <h.name> break?", "a~ <pot>", "<H.Name> broke a~ <pot>.");
  s.Ask("Whose house was it?", "<e.name>'s", "It was <e.name>'s house.");
  s.Ask("Did <h.name> tell the truth?", "yes", "Yes, <h.name> told <e.name> the truth.");
  s.Ask("Was <e.name> angry?", "no", "No, <e.name> was glad that <h.name> told the truth.");
}

void Quarrel(Scene& s) {
  Teller& t = s.t;
  const bool breaks = t.Chance(0.5);
  s.Theme("two friends and a quarrel", "The Quarrel About the <Thing.noun>");
  t.Add(
      "<H.His> best friend was <f.intro>. [They did everything together.|They met every day.|Where one was, the other "
      "was not far away.]");
  t.Paragraph();
  t.Add(
      "<day> they were walking <p.in>. <p.detail> Suddenly they both saw something <p.spot>. It was a~ <thing>. [\"I "
      "saw it first!\" cried <h.name>. \"No, I saw it first!\" cried <f.name>.|\"It is mine!\" said <h.name>. \"No, "
      "mine!\" said <f.name>.]");
  t.Add(
      "[They pulled and pushed.|<H.Name> pulled on one side, and <f.name> pulled on the other.|Neither of them would "
      "let go.]");
  if (breaks) {
    t.Add(
        "[Then there was a crack|And then it happened]: the <thing.noun> [broke in two|was broken]. [Both of them fell "
        "down.|They stared at it in silence.] \"[Look what you have done!|That is your fault!]\" they both shouted, "
        "and each went home alone.");
  } else {
    t.Add(
        "[At last <f.name> let go.|Then <f.name> burst into tears.] \"[Keep your <thing.noun>!|Then take it!] [I will "
        "never play with you again!|You are not my friend any more!]\" <f.he> said, and went home. So <h.name> had the "
        "<thing> all to <h.himself>.");
  }
  t.Paragraph();
  t.Add(breaks ? "[The next day was long and dull.|It rained the next day, and nobody came to play.] [\"It was only a~ "
                 "<thing.noun>,\" thought <h.name>. \"A friend is more.\"|<H.Name> missed <f.name> very much.]"
               : "[But it was no fun to play alone.|But the <thing.noun> did not laugh and told no jokes.] [\"What "
                 "good is a~ <thing.noun> without a friend?\" thought <h.name>.|<H.Name> missed <f.name> very much.] "
                 "[Even the sun seemed to be less bright.|]");
  t.Add(breaks
            ? "[So <h.he> went to <f.name>'s door. On the way they met, for <f.name> had had the same thought.|<H.He> "
              "took some string and glue and went to see <f.name>.] \"I am sorry,\" said <h.name>. \"I am sorry too,\" "
              "said <f.name>. [Together they mended the <thing.noun>.|They sat down and put the pieces together again.]"
            : "In the [evening|afternoon] <h.he> took the <thing.noun> and [ran|went] to <f.name>'s home. \"[I am "
              "sorry|Forgive me],\" <h.he> said. \"[You may have it today, and I tomorrow|Let us take turns|It belongs "
              "to both of us].\" [<F.Name> smiled through <f.his> tears.|<F.Name> was glad. \"I am sorry too,\" <f.he> "
              "said.]");
  t.Add(
      "[And so they were friends again.|They shook hands and laughed.|And they never quarrelled about a~ <thing.noun> "
      "again.] [A thing that is shared brings twice the joy.|Friends are worth more than things.|They played until the "
      "stars came out.|]");
  s.story.ending = t.Say("<H.Name> and <f.name> said sorry and were friends again.");
  s.Ask("What did they quarrel about?", "a~ <thing>", "They quarrelled about a~ <thing>.");
  s.Ask("Who was <h.name>'s best friend?", "<f.name>", "<F.Full> was <h.name>'s best friend.");
  s.Ask("What happened to the <thing.noun>?", breaks ? "it broke" : "<h.name> kept it, and then they shared it",
        breaks ? "The <thing.noun> broke, and they mended it."
               : "First <h.name> kept the <thing.noun>, and then they shared it.");
  s.Ask("Where did they find the <thing.noun>?", "<p.in>", "They found it <p.in>.");
}

void Stuck(Scene& s) {
  Teller& t = s.t;
  struct Trap {
    std::string_view place, rescue, brief;
  };
  constexpr Trap kTraps[] = {
      {"in a deep hole", "<H.He> brought long vines, tied them together and let one end down into the hole",
       "with a rope of vines"},
      {"in a thorny hedge", "<H.He> bent back the thorns one by one with a stick", "by bending back the thorns"},
      {"in thick mud", "<H.He> laid a long board over the mud and crept out on it", "with a long board"},
      {"under a fallen branch",
       "<H.He> pushed a strong pole under the branch and pressed it down with all <h.his> weight",
       "with a strong pole"},
      {"in an old net", "<H.He> looked for the right knot and untied it", "by untying the right knot"},
      {"behind a heavy gate", "<H.He> looked at the lock for a long time, and turned it with a bent wire",
       "with a bent wire"},
  };
  const Trap& trap = t.Pick(kTraps);
  t.Fix("trap", trap.place);
  t.Fix("how", trap.brief);
  s.Theme("a rescue", "How <h.name> Helped <f.name>");
  t.Paragraph();
  t.Add(
      "<day> <h> was on the way to <p>. [Suddenly <h.he> heard a cry.|Then <h.he> heard somebody calling.|From far "
      "away came a thin voice.] \"[Help! Help!|Please help me!|Is anybody there?]\" [<H.He> ran|<H.He> hurried] to see "
      "what it was, and found <f.intro>, who was stuck <trap>.");
  t.Add(
      "[\"How did you get there?\" asked <h.name>. \"I was not looking where I went,\" <said> <f.name>.|\"I have been "
      "here since last night,\" said <f.name>. \"I cannot move.\"|\"I am so glad that you are here,\" said <f.name>.]");
  t.Add(
      "[Already <e.name>, a~ <e.adjective> <e.kind>, was there and pulled with both hands, but it was no "
      "use.|<E.Name>, a~ <e.adjective> <e.kind>, had tried to help and had given up.|A~ <e.adjective> <e.kind> called "
      "<e.name> stood there too. \"Nobody can help you,\" said <e.name>.] [\"It is too hard,\" said <e.name>.|\"I am "
      "not strong enough,\" said <e.name>.]");
  t.Paragraph();
  t.Add(
      "<H.Name> [was not strong either, but <h.he> could think|sat down and thought|scratched <h.his> head]. [\"I have "
      "an idea!\" <h.he> said.|\"Wait here,\" <h.he> said, and ran off.|Then <h.his> eyes lit up.] ");
  t.Add(t.Say(trap.rescue) +
        ". \"[Now!|One, two, three!|Hold tight!]\" [cried|called] <h.he>[, and they all pulled together|]. [There was "
        "a jerk, and|A moment later] <f.name> was free.");
  t.Add(
      "[\"You saved me!\" said <f.name>.|<F.Name> shook off the dirt and laughed.|\"I thank you with all my heart,\" "
      "said <f.name>.] [\"A clever head is better than strong arms,\" said <e.name>.|\"I would not have thought of "
      "that,\" said <e.name>.|<E.Name> was full of wonder.]");
  t.Paragraph();
  t.Add(
      "[And they became good friends.|To thank <h.him>, <f.name> gave <h.him> a~ <thing>.|<F.Name> asked them all to "
      "supper, and there was a~ <food> for everybody.|From that day on, <f.name> always looked where <f.he> went.] "
      "[Even the smallest can help.|Thinking is sometimes better than pulling.|]");
  s.story.ending = t.Say("<H.Name> freed <f.name>.");
  s.Ask("Who was stuck?", "<f.name>", "<F.Full> was stuck.");
  s.Ask("Where was <f.name> stuck?", "<trap>", "<F.Name> was stuck <trap>.");
  s.Ask("How did <h.name> free <f.name>?", "<how>", "<H.Name> freed <f.name> <how>.");
  s.Ask("Who could not help?", "<e.name>", "<E.Full> could not help.");
}

void LostWay(Scene& s) {
  Teller& t = s.t;
  t.Fix("lure", "[blue butterfly|rolling hoop|strange bird|bright feather in the wind|rainbow|white rabbit's tail]");
  s.Theme("losing the way", "<h.name> Goes Too Far");
  t.Paragraph();
  t.Add(
      "\"[Do not go too far|Stay near the house|Be back before dark],\" [<h.name>'s mother always said|everybody told "
      "<h.him>]. But <day_small> <h> saw a~ <lure>[ and ran after it|, and followed it], over the [bridge|fence|road] "
      "and [across the field|through the bushes|down the slope], until <h.he> came to <p>. <p.detail>");
  t.Add(
      "Then it was gone, and <h.name> looked around. [Everything was strange.|<H.He> did not know the place.|There was "
      "no path any more.] [The sun was already low.|It began to grow dark.|A cold mist came up.] \"[Which way is "
      "home?|Where am I?|How do I get back?]\" <h.he> [asked|whispered|cried]. [Nobody answered.|Only the wind "
      "answered.]");
  t.Paragraph();
  t.Add(
      "[First <h.he> went to the left, but there was only a ditch. Then <h.he> went to the right, but there were only "
      "thorns.|<H.He> walked round and round and came back to the same place.] [<H.He> sat down <p.spot> and cried.|At "
      "last <h.he> was too tired to walk.] Then somebody touched <h.his> shoulder. It was <f.intro>. \"[Why are you "
      "crying?|What are you doing here so late?]\" asked <f.name>.");
  t.Add(
      "\"I [cannot find the way home|have lost my way],\" said <h.name>. \"I live <h.home>.\" [\"I know where that "
      "is,\" said <f.name>.|\"That is not so far as you think,\" said <f.name>.|\"Then come with me,\" said <f.name>. "
      "\"I know every path.\"] [They walked side by side under the first stars.|<F.Name> went ahead, and <h.name> "
      "followed close "
      "behind.|On the way <f.he> told funny stories, so that <h.name> forgot <h.his> fear.]");
  t.Paragraph();
  t.Add(
      "[At last they saw a light.|Soon they saw the lights of home.|And there, at the end of the path, was <h.name>'s "
      "home.] [\"Thank you, <f.name>,\" said <h.name>. \"I will listen better next time.\"|<H.Name>'s mother ran out "
      "and took <h.him> in her arms.|\"Will you come and play tomorrow?\" asked <h.name>. \"With pleasure,\" said "
      "<f.name>.] [And <h.name> never ran "
      "after a~ <lure> again.|<H.Name> had lost <h.his> way, but found a friend.|There was warm soup for both of "
      "them.]");
  s.story.ending = t.Say("<F.Name> showed <h.name> the way home.");
  s.Ask("What did <h.name> run after?", "a~ <lure>", "<H.Name> ran after a~ <lure>.");
  s.Ask("Who showed <h.name> the way home?", "<f.name>", "<F.Full> showed <h.name> the way home.");
  s.Ask("Why did <h.name> cry?", "because <h.he> had lost the way", "<H.Name> cried because <h.he> had lost the way.");
}

void Noise(Scene& s) {
  Teller& t = s.t;
  struct Cause {
    std::string_view noise, cause;
  };
  constexpr Cause kCauses[] = {
      {"tap, tap, tap", "a loose branch that knocked against the window"},
      {"scratch, scratch", "a hungry cat that wanted to come in"},
      {"hoo, hoo", "the wind in an empty bottle"},
      {"drip, drop, drip", "a hole in the roof, and a bucket under it"},
      {"squeak, squeak", "a gate that wanted oil"},
      {"bump, bump, bump", "an apple tree that was dropping its apples on the roof"},
      {"rustle, rustle", "a hedgehog that was looking for supper in the leaves"},
  };
  const Cause& cause = t.Pick(kCauses);
  t.Fix("noise", cause.noise);
  t.Fix("cause", cause.cause);
  s.Theme("a noise in the night", "The Noise in the Night");
  t.Paragraph();
  t.Add(
      "One [dark|stormy|windy|still|cold] night <h.name> [could not sleep|woke up suddenly|sat up in bed]. There was a "
      "noise. \"[<Noise>,|<Noise>!]\" it went. [<H.He> pulled the blanket over <h.his> head.|<H.He> listened, and "
      "there it was again.|<H.His> heart beat fast.] \"[Perhaps it is a ghost|Is it a giant|It must be a robber],\" "
      "<h.he> thought.");
  t.Add(
      "In the morning <h.he> told <f.intro> about it. [\"I am not afraid of noises,\" said <f.name>.|\"A noise always "
      "comes from something,\" said <f.name>.|\"Let us find out what it is,\" said <f.name>.] \"[I will stay with you "
      "tonight|Tonight we will watch together].\" <H.Name> was glad, [for two are braver than one|and <h.he> got a "
      "lantern ready].");
  t.Paragraph();
  t.Add(
      "When it was dark, they waited [side by side|under one blanket|and hardly breathed]. \"<Noise>!\" [\"There it "
      "is!\" whispered <h.name>.|\"Did you hear that?\" whispered <h.name>.] [They took the lantern and crept out on "
      "tiptoe.|<F.Name> lit the lantern, and they went to look.|Step by step they went nearer.] [And what did they "
      "see?|And what do you think it was?|Then they saw it.] It was only <cause>.");
  t.Add(
      "[They looked at each other and began to laugh.|\"So that was my ghost!\" said <h.name> and laughed.|<H.Name> "
      "was ashamed at first, but then <h.he> laughed until <h.his> sides ached.] [\"In the dark everything seems "
      "bigger,\" said <f.name>.|\"It is good to look at what we fear,\" said <f.name>.|They put it right, and then it "
      "was quiet.] [And <h.name> slept until late in the "
      "morning.|After that no noise could frighten <h.him> any more.|They drank hot milk and told ghost stories until "
      "morning.]");
  s.story.ending = t.Say("The noise was only <cause>.");
  s.Ask("What was the noise?", "<cause>", "The noise was only <cause>.");
  s.Ask("Who helped <h.name> to watch?", "<f.name>", "<F.Full> watched with <h.name>.");
  s.Ask("When did <h.name> hear the noise?", "at night", "<H.Name> heard the noise at night.");
}

void Boast(Scene& s) {
  Teller& t = s.t;
  t.Fix("art", "[run|swim|climb|sing|jump|count|dance]");
  t.Fix("loss",
        "[lay down for a nap|stopped to look at <f.himself> in the water|waved to the crowd and did not look ahead|ate "
        "so much before it that <f.he> could hardly move|was so sure of <f.himself> that <f.he> forgot to practise]");
  s.Theme("a boaster", "<f.name> the Boaster");
  t.Paragraph();
  t.Add(
      "Near by lived <f.intro>, who [was always boasting|thought much of <f.himself>]. \"Nobody can <art> as well as "
      "I!\" said <f.name> [every day|to everybody|loudly]. [The others were tired of hearing it.|Some believed it, and "
      "some did not.|\"You are nothing beside me,\" <f.he> said to <h.name>.]");
  t.Add(
      "<day> <h.name> said, \"[Let us see|Then let us have a contest|I will try it against you].\" [Everybody "
      "laughed.|<F.Name> laughed loudly. \"You? Against me?\"|The others could not believe their ears.] They agreed to "
      "meet <p.in> [the next week|in seven days|on Sunday], and <e.intro> was to be the judge.");
  t.Paragraph();
  t.Add(
      "[From then on <h.name> practised every morning and every evening.|Every day <h.name> practised, even in the "
      "rain.|<H.Name> practised until it was dark.] [<F.Name> only slept in the sun.|\"I need no practice,\" said "
      "<f.name>.] Then the day came. [All the neighbours were there.|Everybody had come to see it.] \"[Ready? "
      "Begin!|Begin!|One, two, three!]\" cried <e.name>.");
  t.Add(
      "[At first <f.name> was far ahead.|At first it looked bad for <h.name>.|In the beginning <f.name> was better.] "
      "But <f.name> <loss>. [<H.Name> did not look to the left or to the right.|<H.Name> did <h.his> best, quietly and "
      "steadily.] And [in the end|at last] <e.name> [raised one hand|rang a bell]. \"<H.Name> has won!\" [The crowd "
      "cheered.|There was great joy.|Nobody was more surprised than <f.name>.]");
  t.Paragraph();
  t.Add(
      "[<F.Name> hung <f.his> head.|<F.Name> could not say a word.] [\"You did well,\" said <h.name> kindly. \"Shall "
      "we practise together?\"|\"I have talked too much,\" <f.he> said at last, and shook hands with <h.name>.|From "
      "that day on <f.name> talked less and practised more.] [Who works quietly goes far.|Big words do not win a "
      "race.|Pride comes before a fall.|]");
  s.story.ending = t.Say("<H.Name> won, and <f.name> boasted no more.");
  s.Ask("Who was a boaster?", "<f.name>", "<F.Full> was a boaster.");
  s.Ask("Who won?", "<h.name>", "<H.Name> won.");
  s.Ask("Who was the judge?", "<e.name>", "<E.Name> was the judge.");
  s.Ask("Why did <h.name> win?", "because <h.he> practised", "<H.Name> won because <h.he> practised every day.");
}

void Newcomer(Scene& s) {
  Teller& t = s.t;
  t.Fix("game", "[hide and seek|catch|marbles|ball|leapfrog|skipping]");
  s.Theme("a new friend", "<h.name> Finds a Friend");
  t.Add(
      "[<H.He> had only just moved there and knew nobody.|<H.He> was new in the place and very shy.|<H.He> had come "
      "from far away and had no friends yet.]");
  t.Paragraph();
  t.Add(
      "<day> <h> heard laughter and went to <p>. [There the others were playing <game>.|Some others were there and "
      "played <game>.] [<H.He> stood <p.spot> and watched.|<H.He> would have liked to join them, but did not dare to "
      "ask.] \"[They will not want me|What if they laugh at me],\" <h.he> thought.");
  t.Add(
      "[But somebody had seen <h.him>.|Then one of them turned around.] It was <f.intro>. \"[Hello! Who are you?|I "
      "have never seen you here. What is your name?]\" <f.he> asked. \"I am <h.name>,\" said <h.name> [very softly|and "
      "looked at the ground|and blushed]. \"[And I am <f.name>|My name is <f.name>]. [Do you want to play with us|Can "
      "you play <game>]?\"");
  t.Paragraph();
  t.Add(
      "[\"I do not know how,\" said <h.name>. \"I will show you,\" <said> <f.name>.|<H.Name> nodded, and <f.name> took "
      "<h.him> by the hand.|\"May I really?\" asked <h.name>. \"Of course!\" said <f.name>.] [At first <h.he> made "
      "many mistakes, but nobody minded.|It was so much fun that <h.name> forgot to be shy.|Soon <h.he> was running "
      "and shouting like all the others.] [When <h.he> fell down, <f.name> helped "
      "<h.him> up.|Afterwards they shared a~ <food>.]");
  t.Add(
      "[In the evening <f.name> walked home with <h.him>.|Too soon it was evening.] \"[Will you come again "
      "tomorrow|Shall we meet again tomorrow]?\" asked <f.name>. \"Yes!\" said <h.name>. [<H.His> eyes were "
      "shining.|All the way home <h.he> sang.] [It takes only one friend to make a strange place a home.|A friendly "
      "word can open any door.|And so <h.he> was not alone any more.]");
  s.story.ending = t.Say("<H.Name> and <f.name> became friends.");
  s.Ask("Why was <h.name> lonely?", "because <h.he> was new there",
        "<H.Name> was lonely because <h.he> was new there.");
  s.Ask("What did the others play?", "<game>", "They played <game>.");
  s.Ask("Who spoke to <h.name>?", "<f.name>", "<F.Full> spoke to <h.name>.");
}

void Storm(Scene& s) {
  Teller& t = s.t;
  s.Theme("a storm", "<h.name> and the Storm");
  t.Paragraph();
  t.Add(
      "One [autumn|winter|summer] evening a [great|wild|terrible] storm came up. [The wind howled in the trees.|Black "
      "clouds covered the sky.|The rain beat against everything.] <H.Name> was [safe|warm and dry] at home. <H.He> "
      "[was just eating a~ <food>|was sitting by a little fire|was just going to bed]. Then there was a knock.");
  t.Add(
      "Outside stood <f.intro>, wet [through and through|to the bone|from head to foot]. \"[The wind has taken my "
      "roof|My home is full of water|A tree has fallen on my home],\" said <f.name>. \"May I come in?\" [\"Of "
      "course,\" said <h.name>.|\"Come in quickly,\" said <h.name>.] No sooner was the door shut than there was "
      "another knock. It was <e.intro>. \"[I cannot see the path any more|I am so cold],\" said <e.name>. \"[Is there "
      "room for me|May I stay]?\"");
  t.Paragraph();
  t.Add(
      "[<H.Name>'s home was very small.|There was only one bed.] \"[Where there is room for two, there is room for "
      "three|We will sit close together|It will be tight, but it will be warm],\" said <h.name>. [<H.He> hung up the "
      "wet things and made tea.|<H.He> gave them dry blankets and shared what <h.he> had.] [<F.Name> sang a song, and "
      "<e.name> told a story.|They told stories, and outside the storm roared.|Soon they were laughing so loudly "
      "that they did not hear the thunder.]");
  t.Add(
      "In the morning [the sun was shining|the sky was blue again|everything was still]. [Together they went out to "
      "see what the storm had done.|They opened the door. Leaves and branches lay everywhere.] \"[You helped us|You "
      "took us in],\" said <e.name>. \"[Now we will help you to clear up|Now let us all repair <f.name>'s home "
      "together].\" [And with six hands the work was soon done.|And before evening everything was in order.]");
  t.Add(
      "[\"The storm was bad,\" said <h.name>, \"but it brought me two friends.\"|Since then they have met on every "
      "stormy night.|A small house is large enough when the heart is big.]");
  s.story.ending = t.Say("After the storm they cleared up together and were friends.");
  s.Ask("Who came to <h.name>'s door first?", "<f.name>", "<F.Full> came first.");
  s.Ask("Who came second?", "<e.name>", "<E.Full> came second.");
  s.Ask("What was the weather like?", "there was a storm", "There was a storm.");
  s.Ask("Did <h.name> let them in?", "yes", "Yes, <h.name> let them in.");
}

}  // namespace

std::vector<Plot> PlotsOfTroubles() { return {Fear, Broken, Quarrel, Stuck, LostWay, Noise, Boast, Newcomer, Storm}; }

}  // namespace fathom::corpus
