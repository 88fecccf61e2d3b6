// Plots that begin with a wish or a want. Each keeps account of where things are: what is found was lost there, what is
// given belonged to the giver.
#include "corpus/stories.h"

namespace fathom::corpus {
namespace {

void LostThing(Scene& s) {
  Teller& t = s.t;
  t.Fix("spot", "<p.spot>");
  do t.Fix("wrong", "<p.spot>");
  while (t.Say("<wrong>") == t.Say("<spot>"));
  s.Theme("a lost <thing.noun>", "<h.name> and the [Lost|Missing] <Thing.noun>");
  t.Add(
      "[<H.Name> had a~ <thing>, and <h.he> [loved it more than anything|took it everywhere|was very proud of it].|The "
      "best thing that "
      "<h.he> had was a~ <thing>. [It had been a present from <h.his> grandmother.|<H.He> had found it long "
      "ago.|<H.He> never went out "
      "without it.]]");
  t.Paragraph();
  t.Add("<day> <h> <walked> to <p> to play. <p.detail>");
  t.Add(
      "[<H.He> [ran and jumped|played|danced about] until <h.he> was tired. Then <h.he> looked [around|down], and [oh "
      "dear!|alas!|what a "
      "shock!] The <thing.noun> was gone.|But when it was time to go home, the <thing> was not there any more.|After a "
      "while <h.he> wanted "
      "to look at <h.his> <thing.noun>, but it was gone!]");
  t.Add(
      "[\"Where is my <thing.noun>?\" cried <h.name>.|\"Oh no! I have lost my <thing.noun>!\" <h.he> cried.|<H.Name> "
      "felt "
      "[a lump in <h.his> throat|tears in <h.his> eyes|cold with fright].]");
  t.Add(
      "<H.He> looked <wrong>, but it was not there. [<H.He> looked once more, [slowly and carefully|just to be sure], "
      "but found [nothing|only a "
      "snail|only dry leaves].|<H.He> called, as if <thing.noun>s could answer.|<H.He> sat down and began to cry.]");
  t.Paragraph();
  t.Add(
      "[Just then|At that moment|Soon] <f.intro> came [along|by|down the path]. [\"What is the matter?\"|\"Why are you "
      "so sad?\"|\"What are you "
      "looking for?\"] asked <f.name>.");
  t.Add(
      "\"I have lost my <thing>,\" <said> <h.name>. [\"I have looked <wrong>, but I cannot find it.\"|\"It must be "
      "here somewhere.\"|\"I had it this "
      "morning.\"]");
  t.Add(
      "[\"Do not [worry|cry],\" said <f.name>. \"[Two can look better than one|We will find it together|I have good "
      "eyes|Let us think about where you "
      "played].\"|\"Then I will help you,\" said <f.name> at once.|<F.Name> thought for a moment. \"Come with me,\" "
      "<f.he> said.]");
  t.Add(
      "[They looked [high and low|everywhere|here and there].|Together they searched the whole place.|Step by step "
      "they went back the way that "
      "<h.name> had come.] [At last|And then|Suddenly] <f.name> looked <spot>. [\"Look! Here it is!\"|\"Is this your "
      "<thing.noun>?\"|\"I see something!\"] "
      "<f.he> called. [And there it was|There lay the <thing.noun>], [not even dirty|a little wet, but whole|safe and "
      "sound].");
  t.Paragraph();
  t.Add(
      "<H.Name> was <happy>. \"Thank you, <f.name>!\" <h.he> said. [\"You are a true friend.\"|\"How can I thank "
      "you?\"|\"Now let us play together.\"]");
  t.Fix("end",
        "[From that day on, <h.name> and <f.name> were [best|good] friends.|They played together until evening, and "
        "<h.name> [held "
        "on to|took good care of] the <thing.noun>.|<H.Name> let <f.name> play with the <thing.noun> all afternoon.]");
  t.Add("<end>");
  s.story.ending = t.Say("<F.Name> found the <thing.noun>, and <h.name> was happy again.");
  s.Ask("What did <h.name> lose?", "a~ <thing>", "<H.Name> lost a~ <thing>.");
  s.Ask("Where was the <thing.noun>?", "<spot>", "The <thing.noun> was <spot>.");
  s.Ask("Who helped <h.name>?", "<f.name>", "<F.Full> helped <h.name>.");
  s.Ask("Why was <h.name> sad?", "because the <thing.noun> was lost",
        "<H.Name> was sad because the <thing.noun> was lost.");
  s.Ask("Where did <h.name> go?", "to <p>", "<H.Name> went to <p>.");
}

void WorkForIt(Scene& s) {
  Teller& t = s.t;
  t.Fix("task",
        "[swept the floor|carried water from the well|picked apples|fed the hens|stacked the wood|pulled up "
        "weeds|washed the windows|raked "
        "the leaves|peeled potatoes|painted the fence]");
  t.Fix("days", "[two|three|four|five|six|seven] days");
  s.Theme("a~ <thing> and hard work", "<h.name> and the <Thing>");
  t.Add(
      "[More than anything <h.he> wished for a~ <thing>.|There was one thing that <h.he> wanted very much: a~ "
      "<thing>.|<H.He> often dreamed of having "
      "a~ <thing>.]");
  t.Paragraph();
  t.Add(
      "<day> <h> saw a~ <thing> [in the window of a shop|on a table at the market|hanging on a wall]. It belonged to "
      "<e.intro>. \"[How much does it cost|What do "
      "you want for that <thing.noun>]?\" asked <h.name>.");
  t.Add(
      "[\"Three silver coins,\"|\"It costs five pennies,\"|\"More than you have in your pocket, I think,\"] said "
      "<e.name> with a [smile|laugh]. <H.Name> [had "
      "no money at all|had only one small penny|looked into <h.his> pocket, but it was empty]. <H.He> was "
      "[sad|disappointed] and wanted to go away.");
  t.Add(
      "[\"Wait,\" said <e.name>. \"I need somebody to help me. [If you work for me|If you are not afraid of work], the "
      "<thing.noun> shall be yours.\"|But <h.he> did "
      "not give up. \"May I work for it?\" <h.he> asked. <E.Name> was surprised. \"You may,\" <e.he> said.]");
  t.Paragraph();
  t.Add(
      "So <h.name> [worked hard|set to work|rolled up <h.his> sleeves and began]. For <days> <h.he> <task>. [It was "
      "[hard|heavy|slow] work, and in the evening "
      "<h.his> back ached.|On the first day <h.he> was so tired that <h.he> fell asleep over <h.his> supper.|Sometimes "
      "the others called <h.him> to come and play, but "
      "<h.he> shook <h.his> head.|At first <h.he> made many mistakes, but <h.he> learned quickly.]");
  t.Maybe(0.4,
          "[\"Why do you work so much?\" asked <f.full>. \"Because I want to earn it,\" said "
          "<h.name>.|<F.Full> laughed at <h.him>. \"You will never get "
          "that <thing.noun>!\" But <h.name> only smiled.|Even <f.name>, a~ <f.adjective> <f.kind>, came to help a "
          "little.]");
  t.Add(
      "[When the last day was over|When the work was done|At last], <e.name> [looked at everything and nodded|was very "
      "pleased]. \"You have [worked well|worked hard],\" <e.he> said, \"[and I keep my word|and here is your "
      "<thing.noun>|the <thing.noun> is yours].\"");
  t.Paragraph();
  t.Add(
      "<H.Name> [took the <thing.noun> in both hands|carried the <thing.noun> home|held the <thing.noun> tight] and "
      "was <happy>. [No <thing.noun> that is only given can be as "
      "dear as one that is earned.|It was the most beautiful <thing.noun> in the world, because <h.he> had earned "
      "it.|What we have worked for, we [love|keep] well.]");
  s.story.ending = t.Say("<H.Name> worked for <days> and got the <thing>.");
  s.Ask("What did <h.name> want?", "a~ <thing>", "<H.Name> wanted a~ <thing>.");
  s.Ask("Whose <thing.noun> was it?", "<e.name>'s", "It belonged to <e.name>.");
  s.Ask("How long did <h.name> work?", "<days>", "<H.Name> worked for <days>.");
  s.Ask("How did <h.name> get the <thing.noun>?", "by working for it",
        "<H.Name> worked for <e.name> and got the <thing.noun> for it.");
}

void Build(Scene& s) {
  Teller& t = s.t;
  t.Fix("work",
        "[raft|treehouse|snowman|sandcastle|kite|birdhouse|little bridge|tower of stones|hut of "
        "branches|scarecrow|cart|swing]");
  t.Fix("mishap", "[fell over|broke in two|came apart|fell to pieces]");
  t.Fix("advice",
        "[begin with a strong base|take your time|do every part twice|make a plan first|measure before you begin|work "
        "together with a friend]");
  s.Theme("how a~ <work> was built", "<h.name> and the <Work>");
  t.Paragraph();
  t.Add(
      "<day> <h.name> had an idea. [\"I will build a~ <work>!\" <h.he> said.|\"Today I am going to make a~ <work>,\" "
      "<h.he> said to <f.name>, a~ <f.adjective> <f.kind>.|<H.He> wanted to build "
      "the best <work> that anybody had ever seen.] [<H.He> went to <p> at once, for there was enough room.|<H.He> "
      "took everything that <h.he> needed and carried it to <p>.] <p.detail>");
  t.Add(
      "[<H.He> worked very fast.|All morning <h.he> worked and whistled.|<H.He> was in such a hurry that <h.he> did "
      "not [think|look] twice.] [Soon|Before noon] the <work> was finished. But [then a gust of wind "
      "came, and|when <h.he> stepped back to look at it,|a moment later] it <mishap>.");
  t.Add(
      "[\"Oh, bother!\" cried <h.name>.|<H.Name> [stamped <h.his> foot|sat down sadly|sighed].|\"It is no use,\" said "
      "<h.name>. \"I cannot do it.\"] [<H.He> tried again, and again it <mishap>.|The second "
      "time it was no better.|<H.He> wanted to give up.]");
  t.Paragraph();
  t.Add(
      "[<E.Intro> had been watching.|At that moment <e.intro> came by.|Then <e.intro> stopped to look.] [\"That "
      "happens to everybody the first time,\" said <e.name>.|\"May I tell you something?\" asked <e.name>.|\"You are "
      "almost right,\" said <e.name>.] \"The secret is this: <advice>.\"");
  t.Add(
      "[<H.Name> listened carefully.|<H.Name> nodded.|\"I will try,\" said <h.name>.] This time <h.he> [did everything "
      "just as <e.name> had said|did not hurry|worked slowly and well]. [The sun was low when <h.he> put the last "
      "piece in its place.|It took the whole afternoon.|<F.Full> held everything in place.] [And this "
      "time the <work> stood firm.|The wind blew, but the <work> did not move.|Now it was "
      "just as <h.he> had dreamed it.]");
  t.Paragraph();
  t.Add(
      "[\"Hurrah!\" cried <h.name>. \"It holds!\"|\"Look at that!\" said <e.name>. \"I could not have made it "
      "better.\"|Everybody came to look at it and clapped.] <H.Name> was <happy>. [<H.He> had learned that good things "
      "take time.|\"Next time I will think first,\" <h.he> said.|\"Thank you for your advice,\" <h.he> said to "
      "<e.name>.]");
  s.story.ending = t.Say("<H.Name> built the <work> again, and this time it held.");
  s.Ask("What did <h.name> build?", "a~ <work>", "<H.Name> built a~ <work>.");
  s.Ask("What happened to the first <work>?", "it <mishap>", "The first <work> <mishap>.");
  s.Ask("Who gave <h.name> advice?", "<e.name>", "<E.Name> gave <h.name> advice.");
  s.Ask("What was the advice?", "<advice>", "The advice was to <advice>.");
}

void Garden(Scene& s) {
  Teller& t = s.t;
  t.Fix("plant", "[sunflower|pumpkin|bean|apple tree|rose|strawberry plant|tomato plant|melon|cherry tree]");
  t.Fix("laugher", "<f.full>");
  s.Theme("a~ <plant> that grew from a seed", "<h.name>'s [Seed|<Plant>]");
  t.Paragraph();
  t.Add(
      "<day> <e.intro> gave <h.name> a [tiny|small|brown|round] seed. \"[Plant it and be patient|Take good care of "
      "it|Give it water every day],\" said <e.name>. [\"What will it be?\" asked <h.name>. \"Wait and "
      "see,\" <said> <e.name>.|\"I will,\" <h.he> promised.|<H.Name> thanked <e.him> and ran off with it.]");
  t.Add(
      "<H.Name> dug a hole [in a sunny place|in soft earth|behind <h.his> home], put the seed in and covered it up. "
      "Every [day|morning|evening] <h.he> brought water. [But nothing happened.|The first day nothing "
      "happened, and the second day nothing happened.|Day after day the earth stayed brown and bare.]");
  t.Add(
      "[<Laugher> laughed. \"You are watering mud!\" <f.he> said.|\"Nothing will ever grow there,\" said "
      "<laugher>.|<Laugher> shook <f.his> head. \"Why do you not [play with me|give up]?\"] [But <h.name> did not "
      "listen.|\"Good "
      "things take time,\" <said> <h.name>.|<H.Name> was sad, but <h.he> went on bringing water.|It made <h.name> "
      "cross, but <h.he> filled <h.his> can again.]");
  t.Paragraph();
  t.Add(
      "[Then, after a night of [warm|soft] rain,|And one morning, when <h.he> had almost lost hope,|Two weeks later, "
      "early in the morning,] there was [a small green tip in the earth|a tiny green leaf|something green in "
      "the brown earth]. [\"It is growing!\" cried <h.name>.|<H.Name> danced around it three times.|<H.Name> did not "
      "dare to breathe.]");
  t.Add(
      "It grew [day by day|and grew|higher and higher], and [by the end of summer|when summer came|before long] it was "
      "the [finest|biggest|most beautiful] <plant> that anybody had seen. [Now it was <laugher> "
      "who stood there with an open mouth.|Even <laugher> had to admire it.|\"I was wrong,\" said <laugher>. \"I am "
      "sorry that I laughed.\"]");
  t.Add(
      "[<H.Name> was not angry.|\"Never mind,\" said <h.name>.|<H.Name> only smiled.] [\"Next year you can help me,\" "
      "<h.he> said.|\"Here is a seed for you,\" <h.he> said.|And <h.he> gave everybody a share of it.] [Patience had "
      "been "
      "better than laughing.|Whoever waits and works will see something grow.|]");
  s.story.ending = t.Say("The seed grew into a beautiful <plant>.");
  s.Ask("What did <e.name> give <h.name>?", "a seed", "<E.Name> gave <h.name> a seed.");
  s.Ask("What grew from the seed?", "a~ <plant>", "A~ <plant> grew from the seed.");
  s.Ask("Who did not believe in the seed?", "<f.name>", "<F.Full> did not believe in it.");
  s.Ask("What did <h.name> do every day?", "<h.he> brought water", "<H.Name> brought water to the seed.");
}

void Sharing(Scene& s) {
  Teller& t = s.t;
  const bool shares = t.Chance(0.6);
  s.Theme("sharing a~ <food>", "<h.name> and the <Food>");
  t.Paragraph();
  t.Add(
      "<day> <h> had a~ [big|fine|fresh|sweet] <food> [for lunch|all to <h.himself>|in <h.his> basket]. <H.He> "
      "<walked> to <p> to eat it in peace. <p.detail>");
  t.Add(
      "[<H.He> was just going to take a bite when|No sooner had <h.he> sat down than|As soon as <h.he> had opened the "
      "basket,] <f.intro> [came by|appeared]. [<F.He> looked thin and tired.|<F.His> stomach was "
      "growling.] \"[I have not eaten since yesterday|I am so hungry|That smells very good],\" said <f.name>. \"[Will "
      "you give me a piece|May I have a little of it|Could you spare a bite]?\"");
  if (shares) {
    t.Add(
        "[<H.Name> looked at the <food>. It was not very large.|<H.Name> was hungry too.|For a moment <h.name> wanted "
        "to hide it.] But then <h.he> [thought of how it feels to be hungry|saw <f.name>'s sad eyes|felt "
        "sorry for <f.him>]. \"[Sit down|Come here],\" <h.he> said. \"[There is enough for two|Half of it is yours|It "
        "tastes better together].\" [They shared the <food> down to the last crumb.|<H.He> broke it "
        "in two and gave <f.name> the bigger half.]");
    t.Paragraph();
    t.Add(
        "[Some days later|A week later|The next winter], <h.name> [had nothing to eat in the house|got lost in the "
        "rain|hurt <h.his> foot on a sharp stone|was ill and had to stay in bed]. Then there was a [knock|voice]: it "
        "was <f.name>, [with a basket "
        "full of food|with hot soup and bread|and <f.he> had come to help]. \"[You helped me when I was hungry|You "
        "shared with me],\" <f.he> said. \"[Now it is my turn|Now I will help you].\"");
    t.Add(
        "[<H.Name> was <happy>.|And so <h.name> learned that what you give away comes back to you.|\"I am glad that I "
        "have such a friend,\" said <h.name>.|A kind deed is never [lost|too small].]");
    s.story.ending = t.Say("Later <f.name> came to help <h.name>, who had shared with <f.him>.");
    s.Ask("Did <h.name> share the <food>?", "yes", "Yes, <h.name> shared the <food> with <f.name>.");
  } else {
    t.Add(
        "[\"No,\" said <h.name>. \"It is all mine.\"|\"I have not enough for two,\" <said> <h.name>, and that was not "
        "true.|<H.Name> turned away and pretended not to hear.] And <h.he> ate the <food> all alone, [down to the last "
        "crumb|as fast as <h.he> could]. <F.Name> went away [without a word|with <f.his> head hanging|sadly].");
    t.Add(
        "[But the last bite did not taste good.|Soon <h.name> had a stomach ache.|Afterwards <h.he> sat there and felt "
        "[lonely|ashamed].] \"[That was not kind of me|What have I done|I would not like to be treated so],\" <h.he> "
        "thought.");
    t.Paragraph();
    t.Add(
        "The next day <h.he> [baked|bought|got] another <food> and looked for <f.name>. \"[I am sorry|Please forgive "
        "me],\" said <h.name>. \"[I was selfish yesterday|I should have shared with you]. [This one is for you|Let us "
        "eat this one together].\"");
    t.Add(
        "[<F.Name> was surprised, and then <f.he> smiled.|\"I forgive you,\" said <f.name>.|<F.Name> was not angry any "
        "more.] [They sat side by side and ate, and it had never tasted so good.|And they shared it like good "
        "friends.] [Food that is shared is twice as sweet.|After that <h.name> never ate alone when somebody was "
        "hungry.|]");
    s.story.ending = t.Say("<H.Name> said sorry, and they ate another <food> together.");
    s.Ask("Did <h.name> share the first <food>?", "no", "No, <h.name> ate the first <food> alone.");
  }
  s.Ask("What did <h.name> have?", "a~ <food>", "<H.Name> had a~ <food>.");
  s.Ask("Who was hungry?", "<f.name>", "<F.Full> was hungry.");
  s.Ask("Where did <h.name> go to eat?", "to <p>", "<H.Name> went to <p>.");
}

void Present(Scene& s) {
  Teller& t = s.t;
  t.Fix("made", "[sewed|painted|carved|knitted|baked|tied together]");
  s.Theme("a birthday surprise", "<h.name>'s Birthday");
  t.Paragraph();
  t.Add(
      "[It was <h.name>'s birthday.|One morning <h.name> woke up and remembered: today was <h.his> birthday!|At last "
      "the day had come: it was <h.name>'s birthday.] [<H.He> jumped out of bed.|<H.He> combed <h.his> hair and "
      "waited.|<H.He> put on "
      "<h.his> best face.] [But nobody came.|But nobody said a word about it.]");
  t.Add(
      "<H.He> went to see <f.name>, a~ <f.adjective> <f.kind>. [\"I have no time today,\" said <f.name> and shut the "
      "door.|\"Good morning,\" said <f.name>. \"I am very busy.\"|<F.Name> was hiding something behind <f.his> back. "
      "\"Come again "
      "tonight,\" <f.he> said.] Then <h.he> went to <e.name>, the <e.kind>. [\"Not now,\" said <e.name>.|But <e.name> "
      "was not at home.|<E.Name> only waved and hurried past.]");
  t.Add(
      "[\"They have all forgotten me,\" thought <h.name>.|<H.Name> went to <p> and sat down alone.|A tear ran down "
      "<h.name>'s cheek.] [<H.He> stayed there until the sun went down.|<H.He> had never been so sad on a "
      "birthday.|All "
      "day long <h.he> threw little stones and sighed.]");
  t.Paragraph();
  t.Add(
      "[When it grew dark, <h.he> went home.|In the evening <h.he> walked slowly home.] [The house was dark.|There was "
      "no light anywhere.] <H.He> opened the door, and \"Surprise!\" cried many voices. There stood <f.name> and "
      "<e.name> and all the others, [with lanterns and "
      "flowers|around a big cake|with paper hats on their heads].");
  t.Add(
      "\"[Happy birthday|We wish you a happy birthday], <h.name>!\" they [shouted|sang]. <F.Name> gave <h.him> a~ "
      "<thing>. [\"I worked on it all day,\" <f.he> said. \"That is why I had no time.\"|\"That is what I was "
      "hiding,\" <f.he> said.] [<E.Name> had "
      "brought a~ <food>.|<E.Name> played a tune, and everybody danced.]");
  t.Add(
      "[<H.Name> laughed and cried at the same time.|<H.Name> was <happy>.|\"And I thought you had forgotten me!\" "
      "said <h.name>.] [It was the best birthday of all.|They ate and sang until midnight.|Never had there been a "
      "merrier party.]");
  s.story.ending = t.Say("The friends had not forgotten; they had made a surprise party for <h.name>.");
  s.Ask("Why was <h.name> sad?", "<h.he> thought that all had forgotten the birthday",
        "<H.Name> was sad because <h.he> thought that everybody had forgotten the birthday.");
  s.Ask("What did <f.name> give <h.name>?", "a~ <thing>", "<F.Name> gave <h.name> a~ <thing>.");
  s.Ask("What day was it?", "<h.name>'s birthday", "It was <h.name>'s birthday.");
}

void Wish(Scene& s) {
  Teller& t = s.t;
  t.Fix("spirit", "[fairy|star|goldfish|talking fish|silver beetle|white bird]");
  const int64_t kind = t.Below(4);
  constexpr std::string_view kWishes[] = {"to be as big as a house", "to fly like a bird",
                                          "that everything <h.he> touched would turn to sugar",
                                          "to be the strongest of all"};
  constexpr std::string_view kTroubles[] = {
      "But now <h.his> own door was too small, and <h.he> could not go in. [<H.His> friend <f.name> ran away in "
      "fear.|When <h.he> sneezed, the trees fell down.]",
      "At first it was wonderful. But the wind carried <h.him> higher and higher, and it was cold and lonely up there. "
      "[<H.His> friend <f.name> was only a small dot below.|<H.He> did not know how to come down.]",
      "At first it was fun. But <h.his> bed was hard and sticky, <h.his> soup was sugar, and <h.he> could not [shake "
      "hands with|touch] <h.his> friend <f.name> any more.",
      "But every cup that <h.he> lifted broke in <h.his> grip, and every door came off. [<H.His> friend <f.name> was "
      "afraid to play with <h.him>.|Nobody wanted to play with <h.him>.]"};
  constexpr std::string_view kNames[] = {"being big", "flying", "sugar", "being strong"};
  t.Fix("wish", kWishes[kind]);
  s.Theme("a wish about " + std::string(kNames[kind]), "<h.name>'s Wish");
  t.Add(
      "[But <h.he> was not content.|<H.He> was always wishing for something.|Still, <h.he> was often [unhappy|cross] "
      "with what <h.he> had.]");
  t.Paragraph();
  t.Add(
      "<day> <h> was walking [alone|with <h.his> head down] <p.in>. [There <h.he> found a~ <spirit> caught in a thorn "
      "bush, and <h.he> set it free.|There a~ <spirit> lay on the ground, and <h.he> picked it up gently.|Suddenly a~ "
      "<spirit> appeared "
      "before <h.him>.] \"[You have a good heart|Do not be afraid],\" said the <spirit>. \"You may have one wish.\"");
  t.Add(
      "[<H.Name> did not think long.|\"I know what I want!\" cried <h.name>.|<H.Name> shut <h.his> eyes.] <H.He> "
      "wished <wish>. And [at once|in the blink of an eye|before <h.he> could count to three] the wish came true.");
  t.Add(kTroubles[kind]);
  t.Paragraph();
  t.Add(
      "[\"I have made a foolish wish,\" said <h.name>.|<H.Name> sat down and cried.|That evening <h.name> was very "
      "unhappy.] <H.He> went back and called the <spirit>. \"[Please, make me as I was|Please take my wish back|I only "
      "want to be myself again],\" <h.he> "
      "begged. The <spirit> smiled. \"[Now you are wiser|You have learned something],\" it said, and everything was as "
      "before.");
  t.Add(
      "<H.Name> ran home and was <happy>. [\"It is good to be just what I am,\" <h.he> said.|After that <h.he> was "
      "content with what <h.he> had.|From then on <h.he> thought twice before <h.he> wished for something.]");
  s.story.ending = t.Say("The wish was taken back, and <h.name> was content.");
  s.Ask("What did <h.name> wish?", "<wish>", "<H.Name> wished <wish>.");
  s.Ask("Who gave <h.name> a wish?", "a~ <spirit>", "A~ <spirit> gave <h.name> a wish.");
  s.Ask("Was <h.name> happy with the wish?", "no", "No, the wish was foolish, and <h.name> wanted to be as before.");
}

}  // namespace

std::vector<Plot> PlotsOfWishes() { return {LostThing, WorkForIt, Build, Garden, Sharing, Present, Wish}; }

}  // namespace fathom::corpus
