#include "libgreet.h"

#include <stdio.h>
#include <string.h>

static int failures;

static void check(int holds, const char *what)
{
    printf("%s: %s\n", holds ? "PASS" : "FAIL", what);
    failures += !holds;
}

int main(void)
{
    char text[64], tiny[5];

    check(strcmp(greet_words(0), "Good night") == 0, "midnight is night");
    check(strcmp(greet_words(5), "Good morning") == 0, "the morning starts at five");
    check(strcmp(greet_words(23), "Good evening") == 0, "the last hour is evening");
    check(greet_words(24) == NULL, "there is no 24th hour");
    check(greet_write(text, sizeof text, 12, "builder") == 18
              && strcmp(text, "Good day, builder!") == 0, "a name is greeted");
    check(greet_write(text, sizeof text, 12, NULL) > 0
              && strcmp(text, "Good day, world!") == 0, "nobody means everybody");
    check(greet_write(tiny, sizeof tiny, 12, "x") == 12 && strcmp(tiny, "Good") == 0,
          "a short buffer is not overrun");
    check(greet_write(text, sizeof text, -1, NULL) == -1, "there is no hour before the first");
    return failures != 0;
}
