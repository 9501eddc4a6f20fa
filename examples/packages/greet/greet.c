/* greet [-H HOUR] [-p NUMBER] [NAME]: greets NAME, and says the proverb of that number. */

#include <libgreet.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int hour_now(void)
{
    time_t now = time(NULL);

    return localtime(&now)->tm_hour;
}

static int say_proverb(long number)
{
    const char *path = getenv("GREET_PROVERBS");
    FILE *file = fopen(path != NULL ? path : DATADIR "/proverbs", "r");
    char line[256];

    if (file == NULL) {
        perror("greet: proverbs");
        return 1;
    }
    while (number > 0 && fgets(line, sizeof line, file) != NULL)
        number--;
    fclose(file);
    if (number > 0) {
        fputs("greet: there is no proverb of that number\n", stderr);
        return 1;
    }
    fputs(line, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    int option, hour = -1;
    long proverb = 0;
    char text[256];

    while ((option = getopt(argc, argv, "H:p:")) != -1) {
        if (option == 'H') {
            hour = atoi(optarg);
        } else if (option == 'p') {
            proverb = atol(optarg);
        } else {
            fputs("usage: greet [-H HOUR] [-p NUMBER] [NAME]\n", stderr);
            return 2;
        }
    }
    if (greet_write(text, sizeof text, hour >= 0 ? hour : hour_now(), argv[optind]) < 0) {
        fputs("greet: hours go from 0 to 23\n", stderr);
        return 2;
    }
    puts(text);
    return proverb > 0 ? say_proverb(proverb) : 0;
}
